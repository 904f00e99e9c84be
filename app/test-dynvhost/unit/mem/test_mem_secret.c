/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/** @file Who else could see guest memory: children, core dumps, programs that are executed. */

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_test.h"

#define SIZE  (16 * MT_PAGE)
#define READ  DYNVHOST_MEM_READ
#define WRITE DYNVHOST_MEM_WRITE
#define TIB   (UINT64_C(1) << 40)

static void
a_child_has_no_guest_memory(void **state)
{
	struct dynvhost_mem *mem = mt_create(NULL);
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
	uint8_t *loads = mt_hva(view, MT_GPA, SIZE, READ);
	uint8_t *stores = mt_hva(view, MT_GPA, SIZE, WRITE);
	uint8_t *closed = view->region[0]->window[READ].base;
	pid_t child;
	int status;

	assert_true(mt_load(loads) >= 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(mt_load(loads) == -1 && mt_load(stores) == -1 && mt_load(closed) == -1 &&
					mt_load(stores + SIZE - 1) == -1
				? 0
				: 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	dynvhost_mem_view_release(view);
	dynvhost_mem_destroy(mem);
	close(fd);
}

static void
open_pages_stay_out_of_core_dumps(void **state)
{
	int dump, right;

	for (dump = 0; dump < 2; dump++) {
		struct dynvhost_mem_config config = {.dump = dump != 0};
		struct dynvhost_mem *mem = mt_create(&config);
		int fd = mt_memfd(SIZE);
		struct dynvhost_mem_view *view = mt_view(mem, fd, SIZE);
		char flags[512];

		for (right = READ; right <= WRITE; right++) {
			mt_vm_flags(mt_hva(view, MT_GPA + MT_PAGE, 1, right), flags);
			assert_int_equal(strstr(flags, " dd ") == NULL, dump);
			assert_non_null(strstr(flags, " dc "));
		}
		dynvhost_mem_view_release(view);
		dynvhost_mem_destroy(mem);
		close(fd);
	}
}

static const char system_secret[] = "what the guest alone may know";

/** Have some guest memory open, and die. */
static void
system_dump_core(void *arg)
{
	struct rlimit core;
	const bool *dump = arg;
	struct dynvhost_mem_config config = {.dump = *dump};
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mt_create(&config), fd, SIZE);
	uint64_t i;

	for (i = 0; i < sizeof(system_secret); i++)
		mt_put(fd, MT_PAGE + i, &(char){(char)(system_secret[i] ^ 0x55)}, 1);
	/* So that the words are found in guest memory alone. */
	for (i = 0; i < sizeof(system_secret); i++)
		mt_hva(view, MT_GPA + MT_PAGE, 100, WRITE)[i] ^= 0x11;
	mt_hva(view, MT_GPA + MT_PAGE, 100, READ);
	getrlimit(RLIMIT_CORE, &core);
	core.rlim_cur = core.rlim_max;
	setrlimit(RLIMIT_CORE, &core);
	abort();
}

/** Whether a file contains the secret as it is in guest memory. */
static bool
system_file_tells(const char *path)
{
	uint8_t needle[sizeof(system_secret)];
	bool found = false;
	uint8_t *map;
	struct stat st;
	size_t i;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	for (i = 0; i < sizeof(needle); i++)
		needle[i] = (uint8_t)(system_secret[i] ^ 0x55 ^ 0x11);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	found = memmem(map, (size_t)st.st_size, needle, sizeof(needle)) != NULL;
	/* Children to come must not have it from here. */
	explicit_bzero(needle, sizeof(needle));
	munmap(map, (size_t)st.st_size);
	close(fd);
	return found;
}

/** Whether a core dump lands in the working directory, as a file of this name. */
static bool
system_core_is_a_file(void)
{
	FILE *file = fopen("/proc/sys/kernel/core_pattern", "re");
	char pattern[128] = "";

	assert_non_null(file);
	if (fscanf(file, "%127s", pattern) != 1)
		pattern[0] = '\0';
	fclose(file);
	return strcmp(pattern, "core") == 0;
}

/** Dump core in the working directory. @return 0: no guest memory in it; 1: some; -1: no core. */
static int
system_core_tells(bool dump)
{
	struct mt_end end = mt_child(system_dump_core, &dump);
	int tells;

	assert_true(WIFSIGNALED(end.status));
	assert_int_equal(WTERMSIG(end.status), SIGABRT);
	if (!WCOREDUMP(end.status) || access("core", R_OK) != 0)
		return -1;
	tells = system_file_tells("core");
	assert_int_equal(unlink("core"), 0);
	return tells;
}

static void
a_core_dump_holds_no_byte_of_the_guest(void **state)
{
	char here[PATH_MAX], dir[] = "/tmp/dynvhost-core-XXXXXX";
	int by_default, if_asked_for;

	if (!system_core_is_a_file())
		mt_skip("core dumps go elsewhere (kernel.core_pattern)");
	assert_non_null(getcwd(here, sizeof(here)));
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	by_default = system_core_tells(false);
	if_asked_for = system_core_tells(true);
	assert_int_equal(chdir(here), 0);
	assert_int_equal(rmdir(dir), 0);
	if (by_default < 0 || if_asked_for < 0)
		mt_skip("no file \"core\" is dumped here (RLIMIT_CORE)");
	assert_int_equal(by_default, 0);
	/* The kernel dumps shared memory, unless it is huge pages. */
	assert_int_equal(if_asked_for, MT_PAGE == MT_4K);
}

static void
system_exec_ls(void *arg)
{
	int fd = mt_memfd(SIZE);
	struct dynvhost_mem_view *view = mt_view(mt_create(NULL), fd, SIZE);

	mt_hva(view, MT_GPA, 1, READ);
	execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd >&2", NULL);
	_exit(1);
}

static void
a_program_that_is_executed_holds_no_fd_of_ours(void **state)
{
	struct mt_end end = mt_child(system_exec_ls, NULL);

	assert_true(WIFEXITED(end.status));
	assert_int_equal(WEXITSTATUS(end.status), 0);
	assert_non_null(strstr(end.said, "pipe:"));
	if (strstr(end.said, "memfd") != NULL || strstr(end.said, "userfaultfd") != NULL)
		fail_msg("%s", end.said);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_has_no_guest_memory),
		cmocka_unit_test(open_pages_stay_out_of_core_dumps),
		cmocka_unit_test(a_core_dump_holds_no_byte_of_the_guest),
		cmocka_unit_test(a_program_that_is_executed_holds_no_fd_of_ours),
	};

	return mt_run(tests, sizeof(tests) / sizeof(tests[0]), MT_ALL);
}
