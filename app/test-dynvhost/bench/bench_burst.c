/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The dynvhost authors
 */

/**
 * @file
 * bench_burst: what a burst costs, beside other drivers of the same process.
 *
 *	bench_burst [--port DRIVER[,KEY=VALUE…]]… [--shape KEY=VALUE,…]… [--two] [--samples N]
 *	            [--mean] [--packets N] [--ms N] [--simd BITS] [--csv FILE]
 *	            [--profile FILE]
 *
 * For each shape it attaches all ports (net_vhost and net_dynvhost if none is named), compares the
 * bytes of some hundred packets, and takes samples of each port in turn. It prints each port's
 * median and its ratio to the first port: the median of the ratios of neighbouring samples. With
 * --profile also notes where the bursts spend their time, one core only. With
 * --mean means take the place of medians, so that what happens now and then counts too.
 */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_burst.h"
#include "bench_burst_line.h"
#include "bench_burst_profile.h"

#define MAX_SHAPES   160u
#define MAX_SAMPLES  501u
#define MANY_BUFFERS 4096u

struct bench {
	const char *port[BURST_MAX_PORTS];
	unsigned int n_ports;
	struct burst_shape shape[MAX_SHAPES];
	unsigned int n_shapes;
	struct burst_plan plan;
	bool two;
	unsigned int simd_bits; /**< as EAL's --force-max-simd-bitwidth; 0: not said */
	FILE *csv;
	FILE *profile;
};

static struct bench bench = {
	.plan = {.samples = 11, .packets = 32000, .ms = 60},
};

static struct burst_sample bench_sample[BURST_MAX_PORTS][MAX_SAMPLES];

/** The mean without a tenth at each end: whole samples are lost to what the host does. */
static double
bench_mean(double *v, unsigned int n)
{
	const unsigned int cut = n / 10;
	double sum = 0;

	burst_median(v, n); /* sorts */
	for (unsigned int i = cut; i < n - cut; i++)
		sum += v[i];
	return n == 0 ? 0 : sum / (n - 2 * cut);
}

/** One field of a port's samples, as far as both the port's and the first port's count. */
static unsigned int
bench_collect(unsigned int port, unsigned int of, size_t field, double *v)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < bench.plan.samples; i++)
		if (bench_sample[port][i].valid && bench_sample[0][i].valid)
			v[n++] = *(const double *)((const char *)&bench_sample[of][i] + field);
	return n;
}

/** The middle of one field of a port's samples. */
static double
bench_middle(unsigned int port, size_t field)
{
	double v[MAX_SAMPLES];
	unsigned int n = bench_collect(port, port, field, v);

	return bench.plan.mean ? bench_mean(v, n) : burst_median(v, n);
}

/** The ratio of one field of a port's samples to the first port's. */
static double
bench_ratio(unsigned int port, size_t field)
{
	double own[MAX_SAMPLES], first[MAX_SAMPLES];
	unsigned int n = bench_collect(port, port, field, own);

	bench_collect(port, 0, field, first);
	if (bench.plan.mean)
		return n == 0 ? 0 : bench_mean(own, n) / bench_mean(first, n);
	for (unsigned int i = 0; i < n; i++)
		own[i] /= first[i];
	return burst_median(own, n);
}

#define MIDDLE(port, field) bench_middle(port, offsetof(struct burst_sample, field))
#define RATIO(port, field)  bench_ratio(port, offsetof(struct burst_sample, field))

/** With two cores: a turn of samples counts if no placement changed in it. */
static void
bench_judge_turn(unsigned int i)
{
	bool far = bench_sample[0][i].round_trip > BURST_FAR_NS;
	bool same = true;

	for (unsigned int p = 0; p < bench.n_ports; p++)
		same = same && (bench_sample[p][i].round_trip > BURST_FAR_NS) == far;
	for (unsigned int p = 0; p < bench.n_ports; p++)
		bench_sample[p][i].valid = same;
}

/** With two cores: only the turns of the placement that most of them had count. */
static void
bench_keep_one_placement(void)
{
	unsigned int n[2] = {0, 0};

	for (unsigned int i = 0; i < bench.plan.samples; i++)
		if (bench_sample[0][i].valid)
			n[bench_sample[0][i].round_trip > BURST_FAR_NS]++;
	for (unsigned int i = 0; i < bench.plan.samples; i++) {
		const bool far = bench_sample[0][i].round_trip > BURST_FAR_NS;

		for (unsigned int p = 0; p < bench.n_ports && n[far] < n[!far]; p++)
			bench_sample[p][i].valid = false;
	}
}

static const char *
bench_unit(const struct burst_shape *shape)
{
	if (shape->dir == BURST_LOOP)
		return "ns";
	return bench.two ? "Mpps" : "cycles";
}

static void
bench_print(const struct burst_shape *shape)
{
	for (unsigned int p = 0; p < bench.n_ports; p++) {
		double value = MIDDLE(p, value);
		double ratio = RATIO(p, value);

		printf("%-44s %-28s %8.2f %s  ratio %.3f", shape->name, bench.port[p], value,
			bench_unit(shape), ratio);
		if (shape->dir == BURST_LOOP)
			printf("  p99 %.0f ns, ratio %.3f", MIDDLE(p, tail), RATIO(p, tail));
		else if (bench.two)
			printf("  %.0f cyc, bursts of %.1f, %.0f%% empty, %.0f%% stalls",
				MIDDLE(p, cycles), MIDDLE(p, burst), 100 * MIDDLE(p, empty),
				100 * MIDDLE(p, stalls));
		if (bench.two)
			printf(", line %.0f ns", MIDDLE(p, round_trip));
		printf("\n");
		if (bench.csv != NULL)
			fprintf(bench.csv, "%s;%s;%s;%.3f;%.4f;%.1f;%.3f;%.3f;%.0f;%.1f;%.4f\n",
				shape->name, bench.port[p], bench_unit(shape), value, ratio,
				MIDDLE(p, cycles), MIDDLE(p, empty), MIDDLE(p, stalls),
				MIDDLE(p, round_trip), MIDDLE(p, tail), RATIO(p, tail));
	}
	fflush(NULL);
}

static struct burst_sample
bench_take(struct burst_port *port, const struct burst_shape *shape)
{
	if (shape->dir == BURST_LOOP)
		return burst_loop(port, shape, &bench.plan, bench.two);
	return bench.two ? burst_two(port, shape, &bench.plan)
			 : burst_one(port, shape, &bench.plan);
}

/**
 * Check, and so open, what is measured. While so many buffers that they fill no cache are checked,
 * the ports before are idle long enough to close theirs: those go round once more.
 */
static void
bench_prepare(struct burst_port *const *port, const struct burst_shape *shape)
{
	for (unsigned int p = 0; p < bench.n_ports; p++)
		for (uint32_t i = 0; i < shape->ports; i++)
			burst_check(&port[p][i], shape);
	for (unsigned int p = 0; shape->buffers > MANY_BUFFERS && p < bench.n_ports; p++)
		bench_take(port[p], shape);
}

/** As many samples as are measured, apart from those: being interrupted costs. */
static void
bench_profile(struct burst_port *port, const char *name, const struct burst_shape *shape)
{
	burst_profile_start();
	for (unsigned int i = 0; i < bench.plan.samples; i++)
		bench_take(port, shape);
	burst_profile_stop();
	burst_profile_write(bench.profile, shape->name, name);
}

/** @param port  those of each driver. */
static void
bench_measure(struct burst_port *const *port, const struct burst_shape *shape)
{
	bench_prepare(port, shape);
	if (bench.profile != NULL) {
		for (unsigned int p = 0; p < bench.n_ports; p++)
			bench_profile(port[p], bench.port[p], shape);
	}
	for (unsigned int i = 0; i < bench.plan.samples; i++) {
		/* Turn by turn another one goes first. */
		for (unsigned int k = 0; k < bench.n_ports; k++) {
			unsigned int p = (i + k) % bench.n_ports;

			bench_sample[p][i] = bench_take(port[p], shape);
		}
		if (bench.two)
			bench_judge_turn(i);
	}
	if (bench.two)
		bench_keep_one_placement();
	bench_print(shape);
}

static void
bench_shape(const struct burst_shape *shape)
{
	const unsigned int total = bench.n_ports * shape->ports;
	struct burst_port *all = calloc(total, sizeof(*all));
	struct burst_port *port[BURST_MAX_PORTS];
	bool offered = all != NULL;
	unsigned int n = 0;

	for (unsigned int p = 0; p < bench.n_ports; p++)
		port[p] = &all[p * shape->ports];
	while (offered && n < total) {
		offered = burst_port_open(&all[n], bench.port[n / shape->ports], shape);
		n++;
	}
	if (offered)
		bench_measure(port, shape);
	else
		printf("%-44s not measured: feature not offered\n", shape->name);
	while (n > 0)
		burst_port_close(&all[--n]);
	free(all);
}

static bool
bench_add_shape(const char *text)
{
	if (bench.n_shapes == MAX_SHAPES)
		return false;
	return burst_shape_parse(&bench.shape[bench.n_shapes++], text);
}

static bool
bench_set_number(unsigned int *to, const char *text, unsigned int max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end != '\0' || n == 0 || n > max)
		return false;
	*to = (unsigned int)n;
	return true;
}

static bool
bench_option(int option, const char *text)
{
	switch (option) {
	case 'p':
		if (bench.n_ports == BURST_MAX_PORTS)
			return false;
		bench.port[bench.n_ports++] = text;
		return true;
	case 's':
		return bench_add_shape(text);
	case 'n':
		return bench_set_number(&bench.plan.samples, text, MAX_SAMPLES);
	case 'k':
		return bench_set_number(&bench.plan.packets, text, 100000000);
	case 'm':
		return bench_set_number(&bench.plan.ms, text, 60000);
	case 'b':
		return bench_set_number(&bench.simd_bits, text, UINT16_MAX);
	case 'c':
		bench.csv = fopen(text, "w");
		return bench.csv != NULL;
	case 'f':
		bench.profile = fopen(text, "w");
		return bench.profile != NULL;
	case 'a':
		bench.plan.mean = true;
		return true;
	case '2':
		bench.two = true;
		return true;
	default:
		return false;
	}
}

static bool
bench_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"shape", required_argument, NULL, 's'},
		{"samples", required_argument, NULL, 'n'},
		{"packets", required_argument, NULL, 'k'},
		{"ms", required_argument, NULL, 'm'},
		{"simd", required_argument, NULL, 'b'},
		{"csv", required_argument, NULL, 'c'},
		{"profile", required_argument, NULL, 'f'},
		{"two", no_argument, NULL, '2'},
		{"mean", no_argument, NULL, 'a'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!bench_option(option, optarg))
			return false;
	if (bench.n_ports == 0) {
		bench.port[bench.n_ports++] = "net_vhost";
		bench.port[bench.n_ports++] = "net_dynvhost";
	}
	return optind == argc && (bench.n_shapes > 0 || bench_add_shape("dir=rx"));
}

int
main(int argc, char **argv)
{
	if (!bench_options(argc, argv)) {
		fprintf(stderr, "usage: bench_burst [--port DRIVER[,KEY=VALUE...]]... "
				"[--shape KEY=VALUE,...]...\n"
				"       [--two] [--samples N] [--mean] [--packets N] [--ms N] "
				"[--simd BITS] [--csv FILE] [--profile FILE]\n");
		return 2;
	}
	bench.plan.guest_cpu = burst_eal_init(bench.simd_bits);
	if (bench.csv != NULL)
		fprintf(bench.csv, "shape;port;unit;value;ratio;cycles;empty;stalls;round_trip_ns;"
				   "tail;tail_ratio\n");
	if (bench.two && bench.plan.guest_cpu < 0)
		fprintf(stderr, "bench_burst: two CPUs are needed\n");
	else
		for (unsigned int i = 0; i < bench.n_shapes; i++)
			bench_shape(&bench.shape[i]);
	burst_eal_fini();
	if (bench.csv != NULL)
		fclose(bench.csv);
	if (bench.profile != NULL)
		fclose(bench.profile);
	return 0;
}
