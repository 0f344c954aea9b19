/* The load generator: one process, one epoll, no thread.
 *
 *   load echo     --port P --connections N --size B
 *                 round trips of B bytes on N held connections
 *   load bulk     --port P --connections N --size B
 *                 a stream in writes of B bytes on each of N held connections
 *   load turnover --port P --connections N --size B
 *                 connect, one round trip, FIN both ways, close; N at a time
 *   load daytime  --port P --connections N --line F
 *                 connect, read one line (strftime format F) until FIN, close; N at a time
 *   load time     --port P --connections N
 *                 the same with the four bytes of RFC 868 instead of the line
 *   load chargen  --port P --connections N --lines F
 *                 the lines of a character generator on each of N held connections; file F holds
 *                 one period of them
 *   load udp      --port P --connections N --size B
 *                 datagrams of B bytes there and back, one at a time on each of N sockets
 *   load idle     --port P --connections N --size B
 *                 N connections held idle, and the latency of round trips on one more
 *
 * Every byte that comes back is compared with the one that was sent. Of a stream (bulk, chargen)
 * only those of every LOOK_EACH'th read are compared, and in bulk of the last reads of a step, see
 * take_stream(). An *error*
 * is a connection that failed, a wrong byte, a byte too many, or an answer that did not come within
 * --stall seconds. A *short read* is a FIN before the answer was complete, or any event on an idle
 * connection. A datagram without an answer within --loss seconds is *lost*, which is no error: an
 * operation is a datagram that was answered.
 *
 * Protocol with the harness: the generator prints a word ("base" and "held" in mode idle, "ready"
 * in all modes). The harness may then measure the server while nothing moves. The next step begins
 * with a line on standard input. After "ready" that is the work of --seconds, then one line of
 * JSON, then "ready" again, until standard input ends. The exit code is 0 whatever was counted. The
 * clock of a step stops when the last answer has come, so that all work of the server is counted.
 *
 * Source ports: connections leave from addresses of 127.0.0.0/24 in turn (--sources), bound without
 * a port (IP_BIND_ADDRESS_NO_PORT), so that the kernel picks one that is free for this destination.
 * From a single address 28,000 ports and TIME_WAIT would be used up within a second or two.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_EVENTS = 1024,
    MAX_SIZE = 256 * 1024,
    /* A prime: a stream that lost or repeated a block of any usual size is out of step. */
    PERIOD = 65521,
    PROVED_AT_ONCE = 128,
    /* Connections held before the memory of the idle ones is measured. What the server sets up
     * for the first of them is not theirs. */
    BASE = 100,
    LOOK_EACH = 8,
    /* Usually everything that has come. A read that copies nothing needs no buffer. With 4 MiB
     * the generator used 370 us per MiB, with 256 KiB 430 (perf: a quarter of the rest is the
     * copying of what it sends). */
    DROPPED_AT_ONCE = 4 * 1024 * 1024,
    MAX_ERRORS = 100,
    MAX_LATENCIES = 4 * 1000 * 1000,
    LINE_BYTES = 128,
    /* RFC 864: 95 lines of 72 characters and CR LF. */
    LINES_BYTES = 95 * 74,
    TIME_BYTES = 4,
};
#define LOOK_FOR_LOSS_S 0.05
#define FULL_FOR_S 0.1
#define SECONDS_TO_1970 2208988800u /* from 1900, RFC 868 */

enum mode { ECHO, BULK, TURNOVER, DAYTIME, TIME, CHARGEN, UDP, IDLE, MODES };
static const char *const MODE_NAMES[MODES] = {"echo", "bulk", "turnover", "daytime", "time", "chargen", "udp", "idle"};

static struct {
    enum mode mode;
    uint16_t port;
    size_t connections;
    size_t size;
    double seconds;
    double warm_up;
    double stall;
    double loss;
    unsigned sources;
    const char *line;
    const char *lines;
} asked = {.size = 64, .connections = 1, .sources = 32, .seconds = 1.0, .warm_up = 0.2, .stall = 5, .loss = 0.2, .line = "%a %b %e %H:%M:%S %Y\r\n"};

static struct {
    uint64_t operations, errors, short_reads, lost;
    char first_error[160];
} tally;

/* One connection; in the modes that connect again and again the place of one (fd -1: empty).
 * Byte counts are of the present message, in mode bulk of the stream. */
struct connection {
    int fd;
    bool expecting, writing;
    uint64_t begin, sent, received;
    unsigned reads;
    time_t opened_at;
    double asked_at;
    char line[LINE_BYTES];
};

static int queue;
static struct connection *places;
static size_t busy;
static uint8_t pattern[PERIOD + MAX_SIZE], received[MAX_SIZE], lines[LINES_BYTES + MAX_SIZE];

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now_s(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

__attribute__((format(printf, 1, 2))) static void count_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (tally.errors++ == 0)
        vsnprintf(tally.first_error, sizeof tally.first_error, format, arguments);
    va_end(arguments);
}

static bool hopeless(void)
{
    return tally.errors + tally.short_reads >= MAX_ERRORS;
}

static void count_short(const char *what)
{
    if (tally.short_reads++ == 0 && tally.errors == 0)
        snprintf(tally.first_error, sizeof tally.first_error, "%s", what);
}

/* --- connections ------------------------------------------------------------------------------ */

static bool bind_source(int fd)
{
    static unsigned turn;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn++ % asked.sources)};
    int on = 1;
    return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 && bind(fd, (struct sockaddr *)&source, sizeof source) == 0;
}

/* Start a connection, in mode udp of a datagram socket; -1 on failure. A source address without a
 * free port is skipped. */
static int connect_out(void)
{
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(asked.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned attempt = 0; attempt < asked.sources; attempt++) {
        int kind = asked.mode == UDP ? SOCK_DGRAM : SOCK_STREAM;
        int on = 1, fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            die("socket");
        if (!bind_source(fd))
            die("bind");
        if (kind == SOCK_STREAM)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (struct sockaddr *)&server, sizeof server) == 0 || errno == EINPROGRESS)
            return fd;
        int failure = errno;
        close(fd);
        if (failure != EADDRNOTAVAIL) {
            count_error("connect: %s", strerror(failure));
            return -1;
        }
    }
    count_error("connect: no source port is free");
    return -1;
}

static void watch(struct connection *c, int change, uint32_t events)
{
    struct epoll_event wanted = {.events = events, .data.ptr = c};
    if (epoll_ctl(queue, change, c->fd, &wanted) != 0)
        die("epoll_ctl");
}

static void expect(struct connection *c)
{
    busy += !c->expecting;
    c->expecting = true;
}

static void settle(struct connection *c)
{
    busy -= c->expecting;
    c->expecting = false;
}

/* The connection is over, however it ended: the place is empty and nothing is expected of it. */
static void leave(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    settle(c);
}

static void lose(struct connection *c, const char *doing)
{
    count_error("%s: %s", doing, strerror(errno));
    leave(c);
}

static void want_writing(struct connection *c, bool writing)
{
    if (c->writing != writing) {
        c->writing = writing;
        watch(c, EPOLL_CTL_MOD, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

/* --- one message there and back --------------------------------------------------------------- */

static const uint8_t *expected(const struct connection *c, uint64_t at)
{
    return pattern + (c->begin + at) % PERIOD;
}

static bool send_rest(struct connection *c)
{
    ssize_t count = send(c->fd, expected(c, c->sent), asked.size - c->sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != ENOTCONN) { /* ENOTCONN: the handshake is not complete */
        lose(c, "send");
        return false;
    }
    c->sent += count > 0 ? (uint64_t)count : 0;
    want_writing(c, c->sent < asked.size);
    return true;
}

/* Prepare the next message of a connection: other bytes than in its last one and in its
 * neighbours. */
static bool begin_message(struct connection *c)
{
    c->begin = (c->begin + 61 * asked.size + 17) % PERIOD;
    c->sent = c->received = 0;
    expect(c);
    return send_rest(c);
}

/* Read what has come. True when the answer is complete. */
static bool take_answer(struct connection *c)
{
    ssize_t count = recv(c->fd, received, sizeof received, 0);
    if (count < 0) {
        if (errno != EAGAIN)
            lose(c, "recv");
        return false;
    }
    if (count == 0) {
        count_short("FIN before the answer was complete");
        leave(c);
        return false;
    }
    if ((size_t)count > c->sent - c->received || memcmp(received, expected(c, c->received), (size_t)count) != 0) {
        count_error((size_t)count > c->sent - c->received ? "more came back than was sent" : "a wrong byte came back");
        leave(c);
        return false;
    }
    c->received += (uint64_t)count;
    return c->received == asked.size;
}

/* --- the turn of the loop, for all modes ------------------------------------------------------ */

typedef void react(struct connection *c, uint32_t events, bool more);

/* Handle events until nothing is expected any more. Until ``end_at`` each finished operation
 * begins again (``more``). */
static void serve(react *on_event, double end_at)
{
    struct epoll_event events[MAX_EVENTS];
    double moved_at = now_s();
    while (busy > 0) {
        int count = epoll_wait(queue, events, MAX_EVENTS, 100);
        double now = now_s();
        bool more = now < end_at && !hopeless();
        for (int i = 0; i < count; i++)
            on_event(events[i].data.ptr, events[i].events, more);
        if (count > 0)
            moved_at = now;
        else if (now - moved_at > asked.stall) {
            for (struct connection *c = places; c <= places + asked.connections; c++)
                if (c->expecting) {
                    count_error("no answer within %g s on %zu connections", asked.stall, busy);
                    leave(c);
                }
        }
    }
}

static void round_trip(struct connection *c, uint32_t events, bool more)
{
    if (c->fd < 0)
        return;
    if (c->writing && (events & EPOLLOUT) && !send_rest(c))
        return;
    if ((events & ~(uint32_t)EPOLLOUT) && take_answer(c)) {
        tally.operations++;
        settle(c);
        if (more)
            begin_message(c);
    }
}

static void begin_held(struct connection *first, size_t count)
{
    for (struct connection *c = first; c < first + count; c++)
        if (c->fd >= 0)
            begin_message(c);
}

/* Open connections and keep them. Each proves by one round trip that the server has accepted it.
 * They open in small groups, so that no accept queue overflows. */
static void hold(struct connection *first, size_t count)
{
    for (size_t done = 0; done < count && !hopeless(); done += PROVED_AT_ONCE) {
        size_t group = count - done < PROVED_AT_ONCE ? count - done : PROVED_AT_ONCE;
        for (struct connection *c = first + done; c < first + done + group; c++) {
            c->begin = (uint64_t)(c - places) * 977;
            c->fd = connect_out();
            if (c->fd >= 0)
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
        }
        begin_held(first + done, group);
        serve(round_trip, 0);
    }
}

static void run_echo(double seconds)
{
    begin_held(places, asked.connections);
    serve(round_trip, now_s() + seconds);
}

/* --- mode bulk: an endless stream on each connection; every byte is an operation -------------- */

/* Read what has come of the stream. Copying and comparing all of it would make the generator the
 * slower side, so most reads let TCP drop the bytes (MSG_TRUNC, tcp(7)) and only count them. The
 * reads that compare know their place in the stream, and no period divides PERIOD: after a lost
 * or repeated byte nothing fits any more. At the end, when we write no more, all reads compare.
 * An error within a dropped piece alone is not found. */
static void take_stream(struct connection *c, bool more)
{
    bool look = !more || ++c->reads % LOOK_EACH == 0;
    ssize_t count = look ? recv(c->fd, received, sizeof received, 0) : recv(c->fd, NULL, DROPPED_AT_ONCE, MSG_TRUNC);
    if (count == 0) {
        count_short("FIN in the middle of the stream");
        leave(c);
    } else if (count < 0) {
        if (errno != EAGAIN)
            lose(c, "recv");
    } else if ((uint64_t)count > c->sent - c->received) {
        count_error("more came back than was sent");
        leave(c);
    } else if (look && memcmp(received, expected(c, c->received), (size_t)count) != 0) {
        count_error("a wrong byte in the stream");
        leave(c);
    } else {
        c->received += (uint64_t)count;
        tally.operations += (uint64_t)count;
    }
}

static void stream(struct connection *c, uint32_t events, bool more)
{
    if (c->fd < 0)
        return;
    if (!more)
        want_writing(c, false);
    else if (events & EPOLLOUT) {
        ssize_t count = send(c->fd, expected(c, c->sent), asked.size, MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN) {
            lose(c, "send");
            return;
        }
        c->sent += count > 0 ? (uint64_t)count : 0;
    }
    if (events & ~(uint32_t)EPOLLOUT)
        take_stream(c, more);
    if (c->fd >= 0 && !more && c->received == c->sent)
        settle(c);
}

static void run_bulk(double seconds)
{
    for (struct connection *c = places; c < places + asked.connections; c++)
        if (c->fd >= 0) {
            expect(c);
            c->sent = c->received = 0;
            want_writing(c, true);
        }
    serve(stream, now_s() + seconds);
}

/* --- mode chargen: the server speaks unasked; every byte is an operation ---------------------- */

/* As take_stream(). A lost or repeated piece is found unless it is a whole number of periods. */
static void take_lines(struct connection *c)
{
    bool look = ++c->reads % LOOK_EACH == 0;
    ssize_t count = look ? recv(c->fd, received, sizeof received, 0) : recv(c->fd, NULL, DROPPED_AT_ONCE, MSG_TRUNC);
    if (count == 0) {
        count_short("FIN in the middle of the lines");
        leave(c);
    } else if (count < 0) {
        if (errno != EAGAIN)
            lose(c, "recv");
    } else if (look && memcmp(received, lines + c->received % LINES_BYTES, (size_t)count) != 0) {
        count_error("a wrong byte in the lines");
        leave(c);
    } else {
        c->received += (uint64_t)count;
        tally.operations += (uint64_t)count;
    }
}

static void take_first_lines(struct connection *c, uint32_t events, bool more)
{
    (void)events;
    (void)more;
    if (c->fd >= 0) {
        take_lines(c);
        settle(c);
    }
}

/* The server goes on until all buffers are full, and so a step begins and ends with full ones: the
 * server has then produced as much as we have read. Return when the last byte came. */
static double wait_until_full(void)
{
    double grown_at = now_s();
    for (size_t before = 0;;) {
        size_t held = 0;
        for (struct connection *c = places; c < places + asked.connections; c++) {
            int count = 0;
            if (c->fd >= 0 && ioctl(c->fd, FIONREAD, &count) == 0)
                held += (size_t)count;
        }
        double now = now_s();
        if (held != before)
            grown_at = now;
        else if (now - grown_at > FULL_FOR_S)
            return grown_at;
        before = held;
        nanosleep(&(struct timespec){.tv_nsec = 500 * 1000}, NULL);
    }
}

static double run_chargen(double seconds)
{
    struct epoll_event events[MAX_EVENTS];
    double now = now_s(), end_at = now + seconds, moved_at = now;
    for (struct connection *c = places; c < places + asked.connections; c++)
        if (c->fd >= 0)
            expect(c);
    while (busy > 0 && now < end_at) {
        int count = epoll_wait(queue, events, MAX_EVENTS, 100);
        now = now_s();
        for (int i = 0; i < count; i++)
            take_lines(events[i].data.ptr);
        if (count > 0)
            moved_at = now;
        else if (now - moved_at > asked.stall) {
            count_error("no line within %g s", asked.stall);
            break;
        }
    }
    for (struct connection *c = places; c < places + asked.connections; c++)
        settle(c);
    return wait_until_full();
}

/* --- mode udp: every operation a datagram that was answered ----------------------------------- */

static void ask(struct connection *c, double now)
{
    c->begin = (c->begin + 61 * asked.size + 17) % PERIOD;
    c->asked_at = now;
    expect(c);
    if (send(c->fd, expected(c, 0), asked.size, MSG_NOSIGNAL) < 0)
        lose(c, "send");
}

static void open_one(struct connection *c)
{
    c->fd = connect_out();
    if (c->fd >= 0)
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* An answer that comes twice is an error, too: it is not the answer to the next datagram. */
static void take_datagram(struct connection *c, bool more, double now)
{
    ssize_t count = recv(c->fd, received, sizeof received, 0);
    if (count < 0) {
        if (errno != EAGAIN)
            lose(c, "recv");
        return;
    }
    if (!c->expecting || (size_t)count != asked.size || memcmp(received, expected(c, 0), asked.size) != 0) {
        count_error(!c->expecting                  ? "a datagram too many came back"
                    : (size_t)count != asked.size ? "a datagram of another size came back"
                                                  : "a wrong byte came back");
        leave(c);
        return;
    }
    tally.operations++;
    settle(c);
    if (more)
        ask(c, now);
}

/* A socket that lost a datagram is replaced: a late answer cannot be taken for the next one's. */
static void count_lost(bool more, double now)
{
    for (struct connection *c = places; c < places + asked.connections; c++)
        if (c->expecting && now - c->asked_at > asked.loss) {
            tally.lost++;
            leave(c);
            open_one(c);
            if (more && c->fd >= 0)
                ask(c, now);
        }
}

/* Return when the last answer came. */
static double run_udp(double seconds)
{
    struct epoll_event events[MAX_EVENTS];
    double now = now_s(), end_at = now + seconds, answered_at = now, looked_at = now;
    uint64_t before = tally.operations;
    for (struct connection *c = places; c < places + asked.connections; c++)
        if (c->fd >= 0)
            ask(c, now);
    while (busy > 0) {
        int count = epoll_wait(queue, events, MAX_EVENTS, (int)(1000 * LOOK_FOR_LOSS_S));
        now = now_s();
        bool more = now < end_at && !hopeless();
        for (int i = 0; i < count; i++)
            take_datagram(events[i].data.ptr, more, now);
        if (count > 0)
            answered_at = now;
        if (now - looked_at > LOOK_FOR_LOSS_S) {
            looked_at = now;
            count_lost(more, now);
        }
    }
    if (tally.operations == before)
        count_error("no datagram was answered");
    return answered_at;
}

/* --- modes turnover, daytime and time: every operation a connection --------------------------- */

static void begin_connection(struct connection *c)
{
    c->writing = false;
    c->sent = c->received = 0;
    c->opened_at = time(NULL);
    c->fd = connect_out();
    if (c->fd < 0)
        return;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    if (asked.mode == TURNOVER)
        begin_message(c);
    else
        expect(c);
}

static void next_connection(struct connection *c, bool more)
{
    leave(c);
    if (more)
        begin_connection(c);
}

/* After the answer we send FIN and wait for the server's. Nothing else may come. */
static void turn_over(struct connection *c, uint32_t events, bool more)
{
    if (c->fd < 0)
        return;
    if (c->writing && (events & EPOLLOUT) && !send_rest(c)) {
        if (more)
            begin_connection(c);
        return;
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    if (c->received < asked.size) {
        if (take_answer(c) && shutdown(c->fd, SHUT_WR) != 0)
            lose(c, "shutdown");
        if (c->fd < 0 && more)
            begin_connection(c);
        return;
    }
    ssize_t count = recv(c->fd, received, sizeof received, 0);
    if (count == 0)
        tally.operations++;
    else if (count > 0)
        count_error("more came back than was sent");
    else if (errno == EAGAIN)
        return;
    else
        count_error("recv instead of FIN: %s", strerror(errno));
    next_connection(c, more);
}

/* The text of a second, kept because it is needed again and again. */
static const char *text_of(time_t second)
{
    static struct {
        time_t second;
        char text[LINE_BYTES];
    } known[4];
    typeof(known[0]) *slot = &known[second % 4];
    if (slot->second != second) {
        struct tm moment;
        slot->second = second;
        strftime(slot->text, sizeof slot->text, asked.line, localtime_r(&second, &moment));
    }
    return slot->text;
}

/* The line is right if it is that of a second between connect and now. time(2) may be late by a
 * tick, so it gives only the lower bound. */
static bool line_right(const struct connection *c)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (time_t second = c->opened_at; second <= now.tv_sec; second++) {
        const char *text = text_of(second);
        if (strlen(text) == c->received && memcmp(text, c->line, c->received) == 0)
            return true;
    }
    return false;
}

/* The four bytes are right as a line is. */
static bool time_right(const struct connection *c)
{
    struct timespec now;
    uint32_t number;
    clock_gettime(CLOCK_REALTIME, &now);
    memcpy(&number, c->line, sizeof number);
    uint32_t since = ntohl(number) - SECONDS_TO_1970 - (uint32_t)c->opened_at;
    return c->received == TIME_BYTES && since <= (uint32_t)(now.tv_sec - c->opened_at);
}

static void read_line(struct connection *c, uint32_t events, bool more)
{
    (void)events;
    if (c->fd < 0)
        return;
    ssize_t count = recv(c->fd, c->line + c->received, sizeof c->line - c->received, 0);
    if (count > 0) {
        c->received += (uint64_t)count;
        if (c->received < sizeof c->line)
            return; /* the FIN may have come already: the next event says so */
        count_error("a line without end");
    } else if (count == 0) {
        if (c->received == 0)
            count_short("FIN without a line");
        else if (asked.mode == TIME ? time_right(c) : line_right(c))
            tally.operations++;
        else if (asked.mode == TIME)
            count_error("a wrong time in %u bytes", (unsigned)c->received);
        else
            count_error("a wrong line: %.*s", (int)c->received, c->line);
    } else if (errno == EAGAIN)
        return;
    else
        count_error("recv: %s", strerror(errno));
    next_connection(c, more);
}

static void run_connections(double seconds)
{
    double end_at = now_s() + seconds;
    for (struct connection *c = places; c < places + asked.connections; c++)
        begin_connection(c);
    serve(asked.mode == TURNOVER ? turn_over : read_line, end_at);
}

/* --- mode idle: the latency of one connection beside many that sleep -------------------------- */

static uint32_t *latencies_ns;
static size_t latencies;

/* Make one round trip. False when no other is possible. It polls instead of sleeping, because
 * the time that this process takes to wake up is not the server's. */
static bool trip(struct connection *c)
{
    if (!begin_message(c))
        return false;
    double sent_at = now_s();
    while (c->fd >= 0 && !take_answer(c)) {
        if (c->fd >= 0 && c->sent < asked.size && !send_rest(c))
            return false;
        if (now_s() - sent_at > asked.stall) {
            count_error("no answer within %g s", asked.stall);
            return false;
        }
    }
    return c->fd >= 0;
}

/* The held connections are idle: an event on one of them is a FIN, a reset, or unexpected bytes.
 * The active one has its answer and may have no event either. */
static void look_at_idle(void)
{
    struct epoll_event event;
    int count = epoll_wait(queue, &event, 1, 0);
    if (count > 0)
        count_short("an idle connection did not stay as it was");
}

static void run_active(double seconds)
{
    struct connection *c = &places[asked.connections];
    double began = now_s(), end_at = began + seconds;
    for (double at = began; at < end_at && c->fd >= 0 && trip(c);) {
        tally.operations++;
        settle(c);
        double done_at = now_s();
        if (latencies < MAX_LATENCIES)
            latencies_ns[latencies++] = (uint32_t)((done_at - at) * 1e9);
        at = done_at;
    }
    look_at_idle();
}

static int by_size(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double quantile_us(double share)
{
    return latencies ? latencies_ns[(size_t)((double)(latencies - 1) * share)] / 1e3 : 0.0;
}

/* --- the run ---------------------------------------------------------------------------------- */

/* Nothing moves, so the harness may measure the server. The next line on standard input
 * continues; its end ends the run. */
static void stop_for(const char *word)
{
    char line[16];
    printf("%s\n", word);
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0);
}

static void open_held(void)
{
    if (asked.mode == IDLE) {
        size_t base = asked.connections < BASE ? asked.connections : BASE;
        hold(places, base);
        stop_for("base");
        hold(places + base, asked.connections - base);
        stop_for("held");
        hold(places + asked.connections, 1);
    } else if (asked.mode == ECHO || asked.mode == BULK)
        hold(places, asked.connections);
    else if (asked.mode == CHARGEN || asked.mode == UDP) {
        for (struct connection *c = places; c < places + asked.connections; c++) {
            c->begin = (uint64_t)(c - places) * 977;
            open_one(c);
            if (asked.mode == CHARGEN && c->fd >= 0)
                expect(c);
        }
        serve(take_first_lines, 0); /* in mode udp nothing is expected yet */
    }
}

/* Work for ``seconds``. Return when that ended. */
static double run(double seconds)
{
    switch (asked.mode) {
    case ECHO: run_echo(seconds); break;
    case BULK: run_bulk(seconds); break;
    case IDLE: run_active(seconds); break;
    case CHARGEN: return run_chargen(seconds);
    case UDP: return run_udp(seconds);
    default: run_connections(seconds);
    }
    return now_s();
}

static double seconds_of(struct timeval at)
{
    return (double)at.tv_sec + (double)at.tv_usec / 1e6;
}

static void measure(void)
{
    struct rusage before, after;
    tally.operations = tally.lost = 0;
    latencies = 0;
    getrusage(RUSAGE_SELF, &before);
    double began = now_s();
    double took = run(asked.seconds) - began;
    getrusage(RUSAGE_SELF, &after);
    qsort(latencies_ns, latencies, sizeof *latencies_ns, by_size);
    for (char *at = tally.first_error; *at; at++) /* may hold bytes of a server: keep the JSON valid */
        if (*at == '"' || *at == '\\' || *at < ' ' || *at > '~')
            *at = '?';
    printf("{\"seconds\": %.6f, \"operations\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"short_reads\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"first_error\": \"%s\", \"p50_us\": %.2f, "
           "\"p99_us\": %.2f, \"cpu_s\": %.6f}\n",
           took, tally.operations, tally.errors, tally.short_reads, tally.lost, tally.first_error, quantile_us(0.5), quantile_us(0.99),
           seconds_of(after.ru_utime) + seconds_of(after.ru_stime) - seconds_of(before.ru_utime) - seconds_of(before.ru_stime));
    fflush(stdout);
}

static void usage(void)
{
    fprintf(stderr, "usage: load echo|bulk|turnover|daytime|time|chargen|udp|idle --port P [--connections N] [--size B] [--seconds S] [--warm-up S] [--stall S]"
                    " [--loss S] [--sources N] [--line FORMAT] [--lines FILE]\n");
    exit(2);
}

static void parse(int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        {"port", required_argument, NULL, 'p'},    {"connections", required_argument, NULL, 'c'}, {"size", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'}, {"warm-up", required_argument, NULL, 'w'},     {"line", required_argument, NULL, 'l'},
        {"sources", required_argument, NULL, 'n'}, {"stall", required_argument, NULL, 'a'},       {"loss", required_argument, NULL, 'o'},
        {"lines", required_argument, NULL, 'f'},   {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;)
        switch (option) {
        case 'p': asked.port = (uint16_t)atoi(optarg); break;
        case 'c': asked.connections = strtoul(optarg, NULL, 10); break;
        case 's': asked.size = strtoul(optarg, NULL, 10); break;
        case 't': asked.seconds = atof(optarg); break;
        case 'w': asked.warm_up = atof(optarg); break;
        case 'a': asked.stall = atof(optarg); break;
        case 'n': asked.sources = (unsigned)atoi(optarg); break;
        case 'o': asked.loss = atof(optarg); break;
        case 'l': asked.line = optarg; break;
        case 'f': asked.lines = optarg; break;
        default: usage();
        }
    asked.mode = MODES;
    for (int mode = 0; optind == argc - 1 && mode < MODES; mode++)
        if (strcmp(argv[optind], MODE_NAMES[mode]) == 0)
            asked.mode = (enum mode)mode;
    if (asked.mode == MODES || asked.port == 0 || asked.size == 0 || asked.size > MAX_SIZE || asked.sources == 0 || (asked.mode == CHARGEN && asked.lines == NULL))
        usage();
}

static void read_lines(void)
{
    FILE *file = fopen(asked.lines, "rb");
    if (file == NULL || fread(lines, 1, LINES_BYTES, file) != LINES_BYTES)
        die(asked.lines);
    fclose(file);
    for (size_t i = LINES_BYTES; i < sizeof lines; i++)
        lines[i] = lines[i - LINES_BYTES];
}

static void prepare(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    uint32_t state = 2463534242u; /* xorshift: no byte predicts its neighbour */
    for (size_t i = 0; i < sizeof pattern; i++) {
        if (i >= PERIOD) {
            pattern[i] = pattern[i - PERIOD];
            continue;
        }
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        pattern[i] = (uint8_t)state;
    }
    if (asked.mode == CHARGEN)
        read_lines();
    places = calloc(asked.connections + 1, sizeof *places);
    latencies_ns = asked.mode == IDLE ? malloc(MAX_LATENCIES * sizeof *latencies_ns) : NULL;
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (places == NULL || (asked.mode == IDLE && latencies_ns == NULL) || queue < 0)
        die("start");
    for (size_t i = 0; i <= asked.connections; i++)
        places[i].fd = -1;
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    prepare();
    open_held();
    run(asked.warm_up);
    for (;;) {
        stop_for("ready");
        measure();
    }
}
