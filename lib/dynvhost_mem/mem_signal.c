/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * SIGBUS and SIGSEGV of the process: ours first, then whoever had them before us.
 *
 * The handlers stay for good once there are windows, and have exactly the flag SA_SIGINFO: EAL
 * passes faults on to what it finds only if it is so. A fault that is not ours goes to the handler
 * that was there, as nearly as a function call can be a signal, or has the default action with the
 * core dump and the faulting instruction that it would have had.
 *
 * Somebody may put a handler in front of ours later, and pass on to us what it does not want. When
 * we are then put in front of it again, a fault comes by twice: ours, theirs, ours. So each passing
 * is marked in the signal's own siginfo, in a part that the kernel leaves zero, and each time the
 * fault goes one handler further back.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "mem_priv.h"

/** A handler that was in our place. Kept for ever: another thread may be about to call it. */
struct signal_previous {
	struct signal_previous *older; /**< what was behind it */
	struct signal_previous *next;  /**< all that are known for this signal */
	struct sigaction action;
};

static const int signal_numbers[] = {SIGBUS, SIGSEGV};
#define SIGNAL_KINDS (sizeof(signal_numbers) / sizeof(signal_numbers[0]))

static struct signal_previous *_Atomic signal_first[SIGNAL_KINDS];
static struct signal_previous *signal_all[SIGNAL_KINDS];
static pthread_mutex_t signal_lock = PTHREAD_MUTEX_INITIALIZER;

/** The mark: how often this fault has been passed on. */
#define SIGNAL_MARK     UINT64_C(0x64796e76686f7300)
#define SIGNAL_MARK_AT  (sizeof(siginfo_t) - sizeof(uint64_t))
#define SIGNAL_MAX_PASS 255

static size_t
signal_kind(int number)
{
	return number == SIGBUS ? 0 : 1;
}

/** Count one more passing of a fault. @return how many there were before. */
static uint8_t
signal_mark(siginfo_t *info)
{
	uint8_t *at = (uint8_t *)info + SIGNAL_MARK_AT;
	uint64_t mark;
	uint8_t passes = 0;

	memcpy(&mark, at, sizeof(mark));
	if ((mark ^ SIGNAL_MARK) <= SIGNAL_MAX_PASS)
		passes = (uint8_t)(mark ^ SIGNAL_MARK);
	if (passes < SIGNAL_MAX_PASS)
		mark = SIGNAL_MARK ^ (passes + UINT64_C(1));
	memcpy(at, &mark, sizeof(mark));
	return passes;
}

/** Let the signal have its default action from now on. */
static void
signal_reset(int number)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	sigaction(number, &action, NULL);
}

/** Let the default action happen when the handler returns. */
static void
signal_default(int number, const siginfo_t *info)
{
	signal_reset(number);
	/* A fault happens again by itself. */
	if (info->si_code <= 0)
		raise(number);
}

/** Call a handler much as the kernel would. */
static void
signal_call(const struct sigaction *action, int number, siginfo_t *info, void *context)
{
	sigset_t mask = action->sa_mask, before;

	if ((action->sa_flags & (int)SA_RESETHAND) != 0)
		signal_reset(number);
	pthread_sigmask(SIG_BLOCK, &mask, &before);
	if ((action->sa_flags & SA_NODEFER) != 0) {
		sigemptyset(&mask);
		sigaddset(&mask, number);
		pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	}
	if ((action->sa_flags & SA_SIGINFO) != 0)
		action->sa_sigaction(number, info, context);
	else
		action->sa_handler(number);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/** Hand a signal that is not ours to whom it would have gone without us. */
static void
signal_pass_on(int number, siginfo_t *info, void *context)
{
	const struct signal_previous *previous = atomic_load(&signal_first[signal_kind(number)]);
	uint8_t passes = signal_mark(info);

	for (; previous != NULL && passes > 0; passes--)
		previous = previous->older;
	if (previous == NULL || previous->action.sa_handler == SIG_DFL)
		signal_default(number, info);
	else if (previous->action.sa_handler != SIG_IGN)
		signal_call(&previous->action, number, info, context);
	else if (info->si_code > 0) /* a fault cannot be ignored */
		signal_default(number, info);
}

static enum mem_access
signal_access(const void *context)
{
#if defined(__x86_64__)
	const ucontext_t *at = context;

	return (at->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? MEM_ACCESS_STORE : MEM_ACCESS_LOAD;
#else
	(void)context;
	return MEM_ACCESS_UNKNOWN;
#endif
}

static void
signal_handler(int number, siginfo_t *info, void *context)
{
	const struct mem_fault fault = {
		.addr = (uintptr_t)info->si_addr,
		.signal = number,
		.code = info->si_code,
		.access = signal_access(context),
	};
	int saved_errno = errno;

	/* Others than the kernel send no address. */
	if (info->si_code <= 0 || !mem_fault_handle(&fault))
		signal_pass_on(number, info, context);
	errno = saved_errno;
}

/** The record of a handler, made if there is none. */
static struct signal_previous *
signal_remember(size_t kind, const struct sigaction *action)
{
	struct signal_previous *previous;

	for (previous = signal_all[kind]; previous != NULL; previous = previous->next)
		if (previous->action.sa_handler == action->sa_handler &&
			previous->action.sa_flags == action->sa_flags)
			return previous;
	previous = dynvhost_mem_sys->calloc(1, sizeof(*previous));
	if (previous == NULL)
		return NULL;
	previous->action = *action;
	previous->older = atomic_load(&signal_first[kind]);
	previous->next = signal_all[kind];
	signal_all[kind] = previous;
	return previous;
}

/** Put our handler in front for one signal. */
static int
signal_arm(size_t kind)
{
	struct sigaction ours = {.sa_sigaction = signal_handler, .sa_flags = SA_SIGINFO};
	struct signal_previous *previous;
	struct sigaction found;

	if (sigaction(signal_numbers[kind], NULL, &found) != 0)
		return -errno;
	if ((found.sa_flags & SA_SIGINFO) != 0 && found.sa_sigaction == signal_handler)
		return 0;
	previous = signal_remember(kind, &found);
	if (previous == NULL)
		return -ENOMEM;
	atomic_store(&signal_first[kind], previous);
	return sigaction(signal_numbers[kind], &ours, NULL) == 0 ? 0 : -errno;
}

int
dynvhost_mem_faults_arm(void)
{
	int rc = 0;
	size_t kind;

	pthread_mutex_lock(&signal_lock);
	for (kind = 0; kind < SIGNAL_KINDS && rc == 0; kind++)
		rc = signal_arm(kind);
	pthread_mutex_unlock(&signal_lock);
	return rc;
}
