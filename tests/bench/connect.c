/* The load of tests/bench/capture.py: connections of 100 bytes each way, one after the other.
 *
 * `connect serve PORT` answers them; `connect call ADDRESS PORT RATE` makes RATE a second (0: as
 * many as it can). The caller ends each by RST, so that no port stays in TIME_WAIT. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char said[100];

static int serve(struct sockaddr_in *here)
{
	int on = 1, door = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(door, (struct sockaddr *)here, sizeof(*here)) || listen(door, 4096))
		return 1;
	for (;;) {
		int end = accept(door, NULL, NULL);

		if (end < 0)
			continue;
		if (read(end, said, sizeof(said)) > 0)
			(void)!write(end, said, sizeof(said));
		close(end);
	}
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static int call(struct sockaddr_in *there, double rate)
{
	struct linger reset = { 1, 0 };
	double began = now();

	for (double made = 0;; made++) {
		int end = socket(AF_INET, SOCK_STREAM, 0);

		if (!connect(end, (struct sockaddr *)there, sizeof(*there))) {
			(void)!write(end, said, sizeof(said));
			(void)!read(end, said, sizeof(said));
		}
		setsockopt(end, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(end);
		while (rate > 0 && made > (now() - began) * rate)
			usleep(200);
	}
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	memset(said, 'x', sizeof(said));
	signal(SIGPIPE, SIG_IGN);
	if (count == 3) {
		address.sin_port = htons(atoi(arguments[2]));
		return serve(&address);
	}
	if (count != 5 || inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons(atoi(arguments[3]));
	return call(&address, atof(arguments[4]));
}
