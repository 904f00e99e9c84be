/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

#ifndef TELEMETRY_TEXT_H
#define TELEMETRY_TEXT_H

/**
 * @file
 * Telemetry without its thread: the commands that the driver registers, called by their names. What
 * they answer is written down as text instead of JSON, one "key=value" per line; a string that EAL
 * would cut short ends the test. The program wraps the functions of rte_telemetry.h that are used.
 */

#include <stdint.h>

/** The most that EAL keeps of a string, its end included (22.11). */
#define TEL_MAX_STRING 128

/** What the last command has answered. */
extern char tel_answer[16384];

/** Call a command. @return what it returns; the test ends if there is none of that name. */
int tel_ask(const char *cmd, const char *params);

/** Call a command about a port, which must succeed. */
void tel_ask_of_port(const char *cmd, uint16_t port);

/** The value of a key in the answer, good until the next call; the test ends if there is none. */
const char *tel_value_of(const char *key);

/** The same as a number. */
uint64_t tel_number_of(const char *key);

#endif /* TELEMETRY_TEXT_H */
