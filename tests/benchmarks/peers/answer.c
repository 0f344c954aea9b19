/* The program that an exec service starts: it answers with the line of daytime on its
 * standard output, and ends. */

#include "listen.h"

int main(void)
{
    char line[LINE_BYTES];
    size_t count = daytime_line(line);
    return write(STDOUT_FILENO, line, count) == (ssize_t)count ? 0 : 1;
}
