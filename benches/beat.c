/* Writes a character every five milliseconds, for somebody outside of the guest to count. */
#include <unistd.h>

int main(void)
{
    for (;;) {
        if (write(1, ".", 1) != 1)
            return 1;
        usleep(5000);
    }
}
