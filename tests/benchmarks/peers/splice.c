/* Bulk echo that never copies into user space: splice(2) from the socket into a pipe and back, on a
 * level-triggered epoll loop: splice ECHO_PORT
 *
 * It is in one row of the table only, to show what the kernel's own way achieves.
 */

#define _GNU_SOURCE
#include "listen.h"
#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>

/* In bulk, 512 KiB and 1 MiB are no faster (0.97 and 1.01 of the rate), and an ordinary user's
 * share of pipe pages is limited. */
enum { PIPE_BYTES = 256 * 1024, MAX_EVENTS = 512 };

struct connection {
    int fd, in, out;
    uint32_t watched; /* kept, because epoll_ctl(2) at every event cost a seventh of the processor time */
    size_t held;
    bool peer_finished;
};

static int queue;

static void watch(struct connection *c, uint32_t events)
{
    if (c->watched == events)
        return;
    struct epoll_event wanted = {.events = events, .data.ptr = c};
    if (epoll_ctl(queue, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &wanted) != 0)
        die("epoll_ctl");
    c->watched = events;
}

static void end(struct connection *c)
{
    close(c->fd);
    close(c->in);
    close(c->out);
    free(c);
}

/* Move bytes one way; 0 at FIN, -1 if nothing moved for now, -2 if the connection broke. */
static ssize_t move(int from, int to, size_t count)
{
    ssize_t moved = splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    return moved >= 0 ? moved : errno == EAGAIN ? -1 : -2;
}

static void serve(struct connection *c)
{
    ssize_t came = c->peer_finished ? -1 : move(c->fd, c->in, PIPE_BYTES - c->held);
    c->held += came > 0 ? (size_t)came : 0;
    c->peer_finished |= came == 0 && c->held < PIPE_BYTES;
    ssize_t went = c->held > 0 ? move(c->out, c->fd, c->held) : -1;
    c->held -= went > 0 ? (size_t)went : 0;
    if (came == -2 || went == -2 || (c->peer_finished && c->held == 0))
        end(c);
    else
        watch(c, (c->held > 0 ? EPOLLOUT : 0) | (c->held < PIPE_BYTES / 2 && !c->peer_finished ? EPOLLIN : 0));
}

static void accept_from(int listener)
{
    int ends[2], fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *c = calloc(1, sizeof *c);
    if (fd < 0 || c == NULL || pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0 || fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
        die("accept");
    *c = (struct connection){.fd = fd, .in = ends[1], .out = ends[0]};
    watch(c, EPOLLIN);
}

int main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS];
    if (argc != 2)
        return 2;
    raise_files();
    int listener = listen_on(argv[1], SOCK_NONBLOCK);
    queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL};
    if (queue < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, listener, &wanted) != 0)
        die("epoll_ctl");
    for (;;) {
        int count = epoll_wait(queue, events, MAX_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                accept_from(listener);
            else
                serve(events[i].data.ptr);
        }
    }
}
