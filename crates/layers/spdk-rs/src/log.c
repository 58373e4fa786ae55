/* What SPDK and DPDK say, kept until somebody asks: both print otherwise, where it belongs to nobody. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <spdk/log.h>

/* Of DPDK's rte_log.h, whose folder SPDK's pkg-config files do not tell. */
extern int rte_openlog_stream(FILE *stream);

/* Of a flood the beginning tells most. */
#define ROOM (64 * 1024)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char said[ROOM];
static size_t length;

static void
add(const char *text, size_t bytes)
{
	pthread_mutex_lock(&lock);
	if (bytes <= ROOM - length) {
		memcpy(said + length, text, bytes);
		length += bytes;
	}
	pthread_mutex_unlock(&lock);
}

static void
spdk_says(int level, const char *file, const int line, const char *func, const char *format, va_list args)
{
	char text[1024];
	int n;

	(void)file;
	(void)line;
	(void)func;
	if (level > SPDK_LOG_WARN) {
		return;
	}
	n = vsnprintf(text, sizeof(text), format, args);
	if (n > 0) {
		add(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
	}
}

static ssize_t
dpdk_says(void *cookie, const char *text, size_t bytes)
{
	(void)cookie;
	add(text, bytes);
	return (ssize_t)bytes;
}

void
strata_log_open(void)
{
	cookie_io_functions_t functions = {.write = dpdk_says};
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream != NULL) {
		setvbuf(stream, NULL, _IOLBF, 0);
		rte_openlog_stream(stream);
	}
	spdk_log_open(spdk_says);
}

/* Whole lines, as many as fit. */
size_t
strata_log_take(char *into, size_t room)
{
	size_t bytes;

	pthread_mutex_lock(&lock);
	bytes = length < room ? length : room;
	if (bytes < length) {
		const char *end = memrchr(said, '\n', bytes);

		bytes = end != NULL ? (size_t)(end - said) + 1 : bytes;
	}
	memcpy(into, said, bytes);
	memmove(said, said + bytes, length - bytes);
	length -= bytes;
	pthread_mutex_unlock(&lock);
	return bytes;
}
