/*
 * Links measured, not believed: one ordered pair after the other, so that no measurement disturbs another.
 *
 * The sender drives: it announces trials (bytes, repeats), sends the data and takes the time until the answer; the receiver
 * follows until no trial is left. Latency is half the median round trip of a few bytes. Bandwidth is the slope of a line
 * through the median times of as many larger sizes as the time of a pair allows, so a slow link ends with small messages
 * instead of taking minutes.
 */
#include "internal.h"

#include "pac/clock.h"

#include <stdlib.h>
#include <string.h>

enum { TAG_TRIAL = 11, TAG_DATA, TAG_ANSWER };
enum { MOST_REPEATS = 41, PORT_REPEATS = 5, SMALL = 8, LARGEST = 4 << 20 };
static const int64_t sizes[] = {16 << 10, 64 << 10, 256 << 10, 1 << 20, LARGEST};
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static const double seconds_per_pair = 0.12, seconds_in_all = 10;
static const double port_shared = 0.75; /* of what two links promise: less than that means that they share a port */

typedef struct trial {
    int64_t bytes, repeats; /* repeats 0: the end */
} trial;

static pac_err send_bytes(pac_comm *c, const void *data, int64_t bytes, int peer, int tag)
{
    MPI_Request request;
    pac_awaited awaited = {.what = "sending to measure the link", .number = -1, .peer = c->world[peer], .bytes = (size_t)bytes};
    PAC_MPI(MPI_Isend(data, (int)bytes, MPI_BYTE, peer, tag, c->mpi, &request));
    return pac_wait(&request, &awaited, MPI_STATUS_IGNORE);
}

static pac_err recv_bytes(pac_comm *c, void *data, int64_t bytes, int peer, int tag)
{
    MPI_Request request;
    pac_awaited awaited = {
        .what = "receiving to measure the link", .number = -1, .peer = c->world[peer], .bytes = (size_t)bytes};
    PAC_MPI(MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, tag, c->mpi, &request));
    return pac_wait(&request, &awaited, MPI_STATUS_IGNORE);
}

/* ---- the receiver ---- */

static pac_err follow(pac_comm *c, int sender, char *buffer)
{
    for (;;) {
        trial t;
        PAC_TRY(recv_bytes(c, &t, sizeof t, sender, TAG_TRIAL));
        if (t.repeats == 0)
            return PAC_OK;
        for (int64_t i = 0; i < t.repeats; i++) {
            PAC_TRY(recv_bytes(c, buffer, t.bytes, sender, TAG_DATA));
            PAC_TRY(send_bytes(c, buffer, SMALL, sender, TAG_ANSWER));
        }
    }
}

/* ---- the sender ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Median seconds from the start of a message to its answer. */
static pac_err run_trial(pac_comm *c, int receiver, char *buffer, trial t, double *out)
{
    double seconds[MOST_REPEATS];
    PAC_TRY(send_bytes(c, &t, sizeof t, receiver, TAG_TRIAL));
    for (int64_t i = 0; i < t.repeats; i++) {
        double start = pac_now();
        PAC_TRY(send_bytes(c, buffer, t.bytes, receiver, TAG_DATA));
        PAC_TRY(recv_bytes(c, buffer, SMALL, receiver, TAG_ANSWER));
        seconds[i] = pac_now() - start;
    }
    *out = median_of(seconds, t.repeats);
    return PAC_OK;
}

/* How often a message of `seconds` fits into `budget`. */
static int64_t repeats_for(double seconds, double budget)
{
    double fit = budget / (seconds > 1e-9 ? seconds : 1e-9);
    return fit < 1 ? 1 : fit > MOST_REPEATS ? MOST_REPEATS : (int64_t)fit;
}

/* Slope of the line through (bytes, seconds) that errs least in proportion; the largest alone where noise makes it fall. */
static double speed_of(const double *bytes, const double *seconds, int64_t n, double round_trip)
{
    double sw = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = 1 / (seconds[i] * seconds[i] + 1e-18);
        sw += w;
        sx += w * bytes[i];
        sy += w * seconds[i];
        sxx += w * bytes[i] * bytes[i];
        sxy += w * bytes[i] * seconds[i];
    }
    double spread = sw * sxx - sx * sx, slope = spread > 0 ? (sw * sxy - sx * sy) / spread : 0;
    double last = seconds[n - 1], moving = last - round_trip;
    double alone = (moving > last / 10 ? moving : last / 10) / bytes[n - 1];
    bool plausible = n > 1 && slope > alone / 3 && slope < alone * 3;
    return 1 / (plausible ? slope : alone + 1e-15);
}

static pac_err drive(pac_comm *c, int receiver, char *buffer, double budget, double *bandwidth, double *latency)
{
    double round_trip, once, bytes[SIZES], seconds[SIZES], left = budget;
    int64_t n = 0;
    PAC_TRY(run_trial(c, receiver, buffer, (trial){SMALL, 1}, &once)); /* connects */
    PAC_TRY(run_trial(c, receiver, buffer, (trial){SMALL, 1}, &once));
    PAC_TRY(run_trial(c, receiver, buffer, (trial){SMALL, repeats_for(once, budget / 4)}, &round_trip));
    while (n < SIZES && left > 0) {
        PAC_TRY(run_trial(c, receiver, buffer, (trial){sizes[n], 1}, &once));
        int64_t repeats = repeats_for(once, left / 3);
        PAC_TRY(run_trial(c, receiver, buffer, (trial){sizes[n], repeats}, &seconds[n]));
        bytes[n] = (double)sizes[n];
        left -= once + seconds[n] * (double)repeats;
        n++;
        if (seconds[n - 1] * 8 > left) /* the next size would take too long */
            break;
    }
    trial end = {0, 0};
    PAC_TRY(send_bytes(c, &end, sizeof end, receiver, TAG_TRIAL));
    *bandwidth = speed_of(bytes, seconds, n, round_trip);
    *latency = round_trip / 2;
    return PAC_OK;
}

/* To itself: a copy in memory. */
static double copy_speed(char *buffer)
{
    double seconds[5];
    for (int i = 0; i < 5; i++) {
        double start = pac_now();
        memcpy(buffer, buffer + LARGEST / 2, LARGEST / 2);
        seconds[i] = pac_now() - start;
    }
    return LARGEST / 2 / (median_of(seconds, 5) + 1e-9);
}

static pac_err measure_rows(pac_comm *c, char *buffer, double *bandwidth, double *latency)
{
    double budget = seconds_in_all / ((double)c->size * c->size);
    budget = budget < seconds_per_pair ? budget : seconds_per_pair;
    for (int sender = 0; sender < c->size; sender++) {
        for (int receiver = 0; receiver < c->size; receiver++) {
            int64_t at = (int64_t)sender * c->size + receiver;
            if (sender == receiver && c->rank == sender)
                bandwidth[at] = copy_speed(buffer);
            else if (c->rank == sender)
                PAC_TRY(drive(c, receiver, buffer, budget, &bandwidth[at], &latency[at]));
            else if (c->rank == receiver)
                PAC_TRY(follow(c, sender, buffer));
            PAC_TRY(pac_barrier(c));
        }
    }
    return PAC_OK;
}

pac_err pac_measure_links(pac_comm *c, double *bandwidth, double *latency)
{
    pac_err err;
    void *buffer = NULL;
    int64_t pairs = (int64_t)c->size * c->size;
    PAC_GO(pac_agree(c, pac_mem_alloc(PAC_MEM_COMM, LARGEST, &buffer)));
    for (int64_t i = 0; i < pairs; i++)
        bandwidth[i] = latency[i] = 0;
    PAC_GO(measure_rows(c, buffer, bandwidth, latency)); /* each rank fills its row */
    PAC_GO(pac_sum_f64(c, bandwidth, pairs));
    PAC_GO(pac_sum_f64(c, latency, pairs));
out:
    pac_mem_free(buffer);
    return err;
}

/* ---- ports: one rank sends to two others at once ---- */

/* Two ranks on nodes that are neither this rank's nor the same. */
static bool two_peers(const pac_comm *c, int sender, int peer[2])
{
    int64_t here = pac_node_of(c->world[sender]);
    int n = 0;
    for (int r = 0; r < c->size && n < 2; r++)
        if (pac_node_of(c->world[r]) != here && (n == 0 || pac_node_of(c->world[r]) != pac_node_of(c->world[peer[0]])))
            peer[n++] = r;
    return n == 2;
}

static pac_err send_both(pac_comm *c, const char *buffer, int64_t bytes, const int peer[2], double *seconds)
{
    MPI_Request request[2];
    char answer[SMALL];
    double start = pac_now();
    for (int i = 0; i < 2; i++)
        PAC_MPI(MPI_Isend(buffer, (int)bytes, MPI_BYTE, peer[i], TAG_DATA, c->mpi, &request[i]));
    for (int i = 0; i < 2; i++) {
        pac_awaited awaited = {
            .what = "sending to measure the port", .number = -1, .peer = c->world[peer[i]], .bytes = (size_t)bytes};
        PAC_TRY(pac_wait(&request[i], &awaited, MPI_STATUS_IGNORE));
    }
    for (int i = 0; i < 2; i++)
        PAC_TRY(recv_bytes(c, answer, SMALL, peer[i], TAG_ANSWER));
    *seconds = pac_now() - start;
    return PAC_OK;
}

static pac_err measure_port(pac_comm *c, int sender, char *buffer, const double *bandwidth, double *port)
{
    int peer[2];
    double seconds[PORT_REPEATS];
    if (!two_peers(c, sender, peer))
        return PAC_OK;
    double a = bandwidth[(int64_t)sender * c->size + peer[0]], b = bandwidth[(int64_t)sender * c->size + peer[1]];
    double slower = a < b ? a : b;
    int64_t bytes = slower * seconds_per_pair / 4 < LARGEST ? (int64_t)(slower * seconds_per_pair / 4) + SMALL : LARGEST;
    for (int i = 0; i < PORT_REPEATS; i++) {
        if (c->rank == sender)
            PAC_TRY(send_both(c, buffer, bytes, peer, &seconds[i]));
        if (c->rank == peer[0] || c->rank == peer[1]) {
            PAC_TRY(recv_bytes(c, buffer, bytes, sender, TAG_DATA));
            PAC_TRY(send_bytes(c, buffer, SMALL, sender, TAG_ANSWER));
        }
    }
    if (c->rank != sender)
        return PAC_OK;
    double rate = 2 * (double)bytes / median_of(seconds, PORT_REPEATS);
    port[sender] = rate < port_shared * 2 * slower ? rate : 0;
    return PAC_OK;
}

pac_err pac_measure_ports(pac_comm *c, const double *bandwidth, double *port)
{
    pac_err err;
    void *buffer = NULL;
    PAC_GO(pac_agree(c, pac_mem_alloc(PAC_MEM_COMM, LARGEST, &buffer)));
    for (int i = 0; i < c->size; i++)
        port[i] = 0;
    for (int sender = 0; sender < c->size; sender++) {
        PAC_GO(measure_port(c, sender, buffer, bandwidth, port));
        PAC_GO(pac_barrier(c));
    }
    err = pac_sum_f64(c, port, c->size);
out:
    pac_mem_free(buffer);
    return err;
}
