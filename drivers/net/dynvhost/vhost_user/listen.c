/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/*
 * A listening socket that appears at its path in one step.
 *
 * A socket is made under a name of its own, gets its rights, listens, and is then renamed to its
 * path. So whoever finds it there can connect, and a file there that refuses connections is that of
 * a dead listener. To replace such a file, look at it and rename over it while holding a lock on the
 * folder: two that find the same dead file do not throw each other out.
 *
 * Security model: the folder may be one where others make files too, as far as their rights go. A
 * name that is taken is passed over, links are not followed, and a holder of the lock that does not
 * let go costs a second.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "socket.h"

/** Connections that may wait to be accepted: a port serves one, the others are soon turned away. */
#define LISTEN_BACKLOG 8
/** Names that are tried: all but the first are needed only after a process that was killed here. */
#define LISTEN_NAMES 64
/** How often, and how long, the lock of the folder is asked for. */
#define LISTEN_LOCK_LOOKS 100
#define LISTEN_LOCK_NS    10000000

/** Open the folder that a path lies in. @return its fd or -errno. */
static int
listen_open_folder(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char *slash;
	int fd;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash == NULL)
		snprintf(folder, sizeof(folder), ".");
	else
		slash[slash == folder ? 1 : 0] = '\0';
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/** A name beside the path, which also shows in lists of sockets; a shorter one if that is too long. */
static void
listen_name(struct sockaddr_un *addr, const char *path, int folder_fd)
{
	static atomic_uint serial;
	unsigned int n = atomic_fetch_add(&serial, 1);
	int len;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	len = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s.%d-%u", path, (int)getpid(), n);
	if (len >= (int)sizeof(addr->sun_path))
		snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/.vu.%d-%u",
			folder_fd, (int)getpid(), n);
}

/** Create the socket file, with no right for anybody but the owner so far. */
static int
listen_bind(int fd, struct sockaddr_un *addr, const char *path, int folder_fd, mode_t mode)
{
	/* On Linux bind() takes the file's mode from the socket: no need to touch the umask. */
	if (fchmod(fd, mode & S_IRWXU) < 0)
		return -errno;
	for (unsigned int i = 0; i < LISTEN_NAMES; i++) {
		listen_name(addr, path, folder_fd);
		if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			return -errno;
	}
	return -EADDRINUSE;
}

/** Give the socket file its group, then its mode, and only then let anyone connect. */
static int
listen_open_for_all(int fd, const char *name, mode_t mode, gid_t group)
{
	if (group != (gid_t)-1 && lchown(name, (uid_t)-1, group) < 0)
		return -errno;
	if (fchmodat(AT_FDCWD, name, mode, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return listen(fd, LISTEN_BACKLOG) == 0 ? 0 : -errno;
}

/** Rename unless something is there. @return 0, -EEXIST or -errno. */
static int
listen_move_in(const char *name, const char *path)
{
	if (renameat2(AT_FDCWD, name, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* A file system that cannot promise that: two names for a moment. */
	if (link(name, path) < 0)
		return -errno;
	return unlink(name) == 0 ? 0 : -errno;
}

/** Whether a dead listener's file is at the path. -ENOENT: nothing is; -EADDRINUSE: something else. */
static int
listen_judge(const char *path)
{
	struct sockaddr_un addr;
	struct stat st;
	int fd, err;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	err = dynvhost_socket_address(&addr, path);
	if (err < 0)
		return err;
	fd = dynvhost_socket_open();
	if (fd < 0)
		return fd;
	err = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : errno;
	close(fd);
	if (err == ENOENT)
		return -ENOENT;
	return err == ECONNREFUSED ? 0 : -EADDRINUSE;
}

/** Lock the folder against others that take over; closing its fd unlocks. @return 0 or -EADDRINUSE. */
static int
listen_lock(int folder_fd)
{
	const struct timespec moment = {.tv_nsec = LISTEN_LOCK_NS};

	for (unsigned int i = 0; i < LISTEN_LOCK_LOOKS; i++) {
		if (flock(folder_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		nanosleep(&moment, NULL);
	}
	return -EADDRINUSE;
}

/** Put the socket file in its place. */
static int
listen_take_place(const char *name, const char *path, int folder_fd)
{
	int rc = listen_move_in(name, path);

	if (rc != -EEXIST)
		return rc;
	/* What is no dead listener's is told without waiting for anybody. */
	rc = listen_judge(path);
	if (rc == -EADDRINUSE)
		return rc;
	rc = listen_lock(folder_fd);
	if (rc < 0)
		return rc;
	rc = listen_judge(path);
	if (rc == -ENOENT)
		rc = listen_move_in(name, path);
	else if (rc == 0)
		rc = rename(name, path) == 0 ? 0 : -errno;
	return rc == -EEXIST ? -EADDRINUSE : rc;
}

/** Make the socket and put it in its place. @return 0 or -errno, and then its file is gone. */
static int
listen_make(int fd, const char *path, int folder_fd, mode_t mode, gid_t group)
{
	struct sockaddr_un addr;
	struct stat st;
	int rc;

	rc = listen_bind(fd, &addr, path, folder_fd, mode);
	if (rc < 0)
		return rc;
	rc = listen_open_for_all(fd, addr.sun_path, mode, group);
	if (rc == 0)
		rc = listen_take_place(addr.sun_path, path, folder_fd);
	if (rc < 0 && lstat(addr.sun_path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(addr.sun_path);
	return rc;
}

int
dynvhost_socket_listen(const char *path, mode_t mode, gid_t group)
{
	struct sockaddr_un addr;
	int folder_fd, fd, rc;

	rc = dynvhost_socket_address(&addr, path);
	if (rc < 0)
		return rc;
	fd = dynvhost_socket_open();
	if (fd < 0)
		return fd;
	folder_fd = listen_open_folder(path);
	rc = folder_fd < 0 ? folder_fd : listen_make(fd, path, folder_fd, mode, group);
	if (folder_fd >= 0)
		close(folder_fd);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}
