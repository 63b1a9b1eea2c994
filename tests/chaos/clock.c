/* Gives a process, and all that it starts, a wall clock that is CLOCK_OFFSET_S seconds off.
 *
 * Nothing else is touched: sleeps and timeouts run by the monotonic clock, as on a machine whose clock is
 * wrong. (libfaketime 0.9.10 also shifts clock_nanosleep, and Python 3.11's time.sleep fails with EINVAL.)
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset;

__attribute__((constructor)) static void read_offset(void)
{
    const char *text = getenv("CLOCK_OFFSET_S");
    offset = text ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int result = syscall(SYS_clock_gettime, id, at);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += offset;
    return result;
}

int gettimeofday(struct timeval *at, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
