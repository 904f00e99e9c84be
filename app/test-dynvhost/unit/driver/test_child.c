/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * What children of the application inherit: a forked one no guest memory, one that executes another
 * program no file of the driver either.
 */

#include <stdio.h>
#include <unistd.h>

#include <sys/wait.h>

#include "rig.h"

/** Ways in which a forked child may end; else, a signal. */
#define CHILD_REACHES_NONE 42
#define CHILD_REACHES_SOME 43

/** Run @p body in a forked child. @return its wait status. */
static int
child_status(int (*body)(struct rig *rig))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(body(rig_main()));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int
child_looks_for_guest_memory(struct rig *rig)
{
	struct exposure exposure;

	exposure_read(&rig->ram, &exposure);
	return exposure.mapped == 0 ? CHILD_REACHES_NONE : CHILD_REACHES_SOME;
}

static void
test_forked_child_reaches_no_guest_memory(void **state)
{
	static const char *const options[] = {
		"map-mode=mmap,map-idle-ms=0",
		"map-mode=auto,map-idle-ms=0",
		"map-mode=eager",
		"map-mode=auto,map-idle-ms=0,map-dump=1",
	};
	struct rig *rig = rig_main();
	struct exposure exposure;
	int status;

	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const struct rig_config config = {.port = {.devargs = options[i]}};

		rig_open(rig, &config);
		rig_exchange(rig, 0, 64);
		exposure_read(&rig->ram, &exposure);
		assert_true(exposure.loadable > exposure.storable && exposure.storable > 0);
		status = child_status(child_looks_for_guest_memory);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), CHILD_REACHES_NONE);
		rig_exchange(rig, 0, 64);
		rig_close(rig);
	}
}

/** Files that a program executed by this process finds open. */
static unsigned int
child_open_files(void)
{
	FILE *names = popen("/bin/ls /proc/self/fd", "re");
	unsigned int lines = 0;
	int c;

	assert_non_null(names);
	while ((c = fgetc(names)) != EOF)
		lines += c == '\n';
	assert_int_equal(pclose(names), 0);
	assert_true(lines > 0);
	return lines;
}

static void
test_executed_child_holds_no_file_of_the_driver(void **state)
{
	const struct rig_config config = {.nic = {.n_pairs = 4}};
	unsigned int files = child_open_files();
	struct rig *rig = rig_main();
	unsigned int ours = mock_count_fds();

	rig_prepare(rig, &config);
	assert_int_equal(child_open_files(), files);
	rig_bring_up(rig);
	rig_exchange(rig, 0, 64);
	assert_true(mock_count_fds() > ours);
	assert_int_equal(child_open_files(), files);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RIG_TEST(test_forked_child_reaches_no_guest_memory),
		RIG_TEST(test_executed_child_holds_no_file_of_the_driver),
	};

	rig_program("test_unit_drv_child", 60);
	return cmocka_run_group_tests_name(
		"driver child", tests, rig_group_setup, rig_group_teardown);
}
