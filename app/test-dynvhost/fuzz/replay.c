/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * Plays a target's corpus, and then variations of it for some seconds; prints TAP. The variations
 * follow from the seed: DYNVHOST_TEST_SEED chooses others, DYNVHOST_TEST_LONG=1 asks for more.
 *
 * Usage: test_fuzz_TARGET [FILE...]   a file is an input, or a folder of them; default: the corpus
 *
 * The target runs in a child process, so that whatever it dies of (a signal, a sanitizer, an input
 * without end) is told together with the input that it died of.
 */

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "mutate.h"

/** An input takes microseconds; what takes that long never ends. */
#define REPLAY_LIMIT_S 20

#define REPLAY_SECONDS      3
#define REPLAY_LONG_SECONDS 60
/** A fast machine does no more than that, so that a run without load is the same everywhere. */
#define REPLAY_INPUTS      40000u
#define REPLAY_LONG_INPUTS 2000000u

#define REPLAY_MAX_FILES 128

/** An input of the corpus. */
struct replay_file {
	char name[64];
	size_t size;
	uint8_t bytes[FUZZ_MAX_INPUT];
};

static struct replay_file replay_file[REPLAY_MAX_FILES];
static unsigned int replay_n_files;

/** Shared with the child: what it is doing. */
static struct replay_state {
	unsigned int cases; /**< finished, of which results have been printed */
	char what[128];
	size_t size;
	uint8_t bytes[FUZZ_MAX_INPUT];
} * replay;

static void
replay_read_file(const char *path, const char *name)
{
	struct replay_file *file = &replay_file[replay_n_files];
	FILE *stream;

	if (replay_n_files == REPLAY_MAX_FILES) {
		fprintf(stderr, "more than %d inputs: %s is left out\n", REPLAY_MAX_FILES, path);
		return;
	}
	stream = fopen(path, "rb");
	if (stream == NULL) {
		perror(path);
		exit(1);
	}
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->size = fread(file->bytes, 1, sizeof(file->bytes), stream);
	fclose(stream);
	replay_n_files++;
}

static void
replay_read(const char *path)
{
	struct dirent **entry;
	char below[1024];
	int i, n;

	n = scandir(path, &entry, NULL, alphasort);
	if (n < 0) {
		const char *slash = strrchr(path, '/');

		replay_read_file(path, slash == NULL ? path : slash + 1);
		return;
	}
	for (i = 0; i < n; i++) {
		snprintf(below, sizeof(below), "%s/%s", path, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			replay_read_file(below, entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
}

static void
replay_run(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size == 0 ? 1 : size);

	if (copy == NULL)
		abort();
	/* In a place of its own, where a sanitizer sees what is read beyond it. */
	memcpy(copy, bytes, size);
	memcpy(replay->bytes, bytes, size);
	replay->size = size;
	alarm(REPLAY_LIMIT_S);
	LLVMFuzzerTestOneInput(copy, size);
	alarm(0);
	free(copy);
}

static void
replay_pass(const char *what)
{
	printf("ok %u - %s\n", ++replay->cases, what);
	fflush(stdout);
}

static void
replay_corpus(void)
{
	unsigned int i;

	for (i = 0; i < replay_n_files; i++) {
		snprintf(replay->what, sizeof(replay->what), "corpus: %.63s", replay_file[i].name);
		replay_run(replay_file[i].bytes, replay_file[i].size);
		replay_pass(replay->what);
	}
}

/* Whether the corpus still does all that it is there for. */
static void
replay_judge_corpus(void)
{
	unsigned int i, missing = 0;

	for (i = 0; fuzz_outcomes[i] != NULL; i++) {
		if (fuzz_seen[i] != 0)
			continue;
		printf("# the corpus does not lead to: %s\n", fuzz_outcomes[i]);
		missing++;
	}
	printf("%s %u - corpus: leads to all %u outcomes\n", missing == 0 ? "ok" : "not ok",
		++replay->cases, i);
	fflush(stdout);
}

static uint64_t
replay_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
replay_variations(uint64_t seed, uint64_t seconds, unsigned int most)
{
	const uint64_t deadline = replay_now_ms() + seconds * 1000;
	struct mutate mutate = {.random = seed};
	uint8_t bytes[FUZZ_MAX_INPUT];
	unsigned int i;
	char what[96];

	for (i = 0; i < most && replay_now_ms() < deadline; i++) {
		const struct replay_file *file =
			&replay_file[mutate_below(&mutate, replay_n_files)];
		const struct replay_file *other =
			&replay_file[mutate_below(&mutate, replay_n_files)];
		size_t size;

		memcpy(bytes, file->bytes, file->size);
		size = mutate_input(
			&mutate, bytes, file->size, sizeof(bytes), other->bytes, other->size);
		snprintf(replay->what, sizeof(replay->what), "variation %u of seed %llu: %.63s", i,
			(unsigned long long)seed, file->name);
		replay_run(bytes, size);
	}
	snprintf(what, sizeof(what), "%u variations of it", i);
	replay_pass(what);
}

static void
replay_child(void)
{
	const char *seed = getenv("DYNVHOST_TEST_SEED");
	const char *is_long = getenv("DYNVHOST_TEST_LONG");
	bool wants_long = is_long != NULL && strcmp(is_long, "1") == 0;

	snprintf(replay->what, sizeof(replay->what), "before the first input");
	LLVMFuzzerInitialize(NULL, NULL);
	replay_corpus();
	replay_judge_corpus();
	replay_variations(seed == NULL ? 20260101 : strtoull(seed, NULL, 0),
		wants_long ? REPLAY_LONG_SECONDS : REPLAY_SECONDS,
		wants_long ? REPLAY_LONG_INPUTS : REPLAY_INPUTS);
	snprintf(replay->what, sizeof(replay->what), "after the last input");
	exit(0);
}

/* The input in a form that can be copied from a log: xxd -r -p gives the file back. */
static void
replay_print_input(void)
{
	size_t i;

	for (i = 0; i < replay->size; i++)
		printf("%s%02x", i % 48 == 0 ? "\n#\t" : "", replay->bytes[i]);
	printf("\n");
}

static int
replay_judge(int status, unsigned int cases)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && replay->cases == cases)
		return 0;
	if (WIFSIGNALED(status))
		printf("# ended by: %s\n", strsignal(WTERMSIG(status)));
	else
		printf("# ended with status %d\n", WEXITSTATUS(status));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("# the input takes longer than %d s\n", REPLAY_LIMIT_S);
	printf("# the input, to be read by xxd -r -p:");
	replay_print_input();
	printf("not ok %u - %s\n", ++replay->cases, replay->what);
	return 1;
}

int
main(int argc, char **argv)
{
	unsigned int cases;
	int i, status;
	pid_t child;

	for (i = 1; i < argc; i++)
		replay_read(argv[i]);
	if (argc == 1)
		replay_read(FUZZ_CORPUS);
	replay = mmap(
		NULL, sizeof(*replay), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (replay == MAP_FAILED || replay_n_files == 0) {
		fprintf(stderr, "no inputs\n");
		return 1;
	}
	cases = replay_n_files + 2;
	printf("1..%u\n", cases);
	fflush(stdout);
	child = fork();
	if (child == 0)
		replay_child();
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("child process");
		return 1;
	}
	return replay_judge(status, cases);
}
