/*
 * A simulated mini-batch as a picture: a lane per device with what it computes, thinner what leaves it on the network, and
 * under it its bytes over time with the budget as a dashed line. SVG by hand: it is rectangles and text, and a browser shows
 * the numbers of what the mouse points at.
 */
#include "cost.h"
#include "file.h"

#include "pac/bytes.h"
#include "pac/simulate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Pixels. A lane is names on the left, what happens, numbers on the right; from top to bottom computing, messages, bytes. */
enum {
    LEFT = 180,
    SPAN = 1000,
    RIGHT = 150,
    TOP = 84,
    COMPUTE = 24,
    LINK = 4, /* each direction */
    BYTES = 28,
    GAP = 14,
    LANE = COMPUTE + 2 * LINK + BYTES + GAP,
    BOTTOM = 48,
    NOTE = 16, /* what was left out */
    NAMED = 8, /* devices of which are named */
};

typedef struct chart {
    pac_emitter out;
    const pac_sim_request *q;
    const pac_simulation *s;
    double end; /* of the mini-batch, seconds */
    int64_t lanes;
    int64_t device[PAC_MAX_DEVICES], lane_of[PAC_MAX_DEVICES], stage[PAC_MAX_DEVICES],
        member[PAC_MAX_DEVICES]; /* stage -1: left out, no lane */
} chart;

/* How a kind of interval is drawn; messages lie below in a thinner strip. */
static const struct style {
    const char *name, *label, *colour;
    int top, height;
} styles[] = {
    [PAC_OP_FWD] = {"f", "forward", "#3b6ea5", 0, COMPUTE},
    [PAC_OP_BWD] = {"b", "backward", "#e0862a", 0, COMPUTE},
    [PAC_OP_REDUCE] = {"r", "sum of gradients", "#4f9d5d", 0, COMPUTE},
    [PAC_OP_STEP] = {"u", "update", "#8d4fa0", 0, COMPUTE},
    [PAC_OP_SEND_FWD] = {"sf", "activations on the network", "#7fa8d1", COMPUTE, LINK},
    [PAC_OP_SEND_BWD] = {"sb", "gradients on the network", "#f2b67c", COMPUTE + LINK, LINK},
};
enum { STYLES = sizeof styles / sizeof styles[0] };

/* ---- text ---- */

/* What may stand in XML; control characters become '?', and a name that is too long for its place ends in an ellipsis. */
static void emit_name(pac_emitter *e, const char *s, int most)
{
    for (int n = 0; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        bool begins = (c & 0xc0) != 0x80; /* not in the middle of a UTF-8 character */
        if (begins && ++n > most) {
            pac_emit(e, "...");
            return;
        }
        if (c == '<' || c == '>' || c == '&' || c == '"')
            pac_emit(e, "&#%d;", c);
        else
            pac_emit(e, "%c", c < 0x20 || c == 0x7f ? '?' : c);
    }
}

static const char *schedule_name(pac_sim_schedule s)
{
    static const char *const names[] = {
        [PAC_SIM_1F1B] = "1F1B", [PAC_SIM_GPIPE] = "GPipe", [PAC_SIM_SEQUENTIAL] = "sequential"};
    return names[s];
}

/* Distance of marks on the time axis: 1, 2 or 5 times a power of ten, about ten marks. */
static double tick(double end)
{
    double base = pow(10, floor(log10(end / 10))), n = end / 10 / base;
    return base * (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10);
}

/* ---- the frame ---- */

static double x_of(const chart *c, double seconds)
{
    return LEFT + SPAN * (c->end > 0 ? seconds / c->end : 0);
}

static void begin(chart *c)
{
    pac_emitter *e = &c->out;
    int64_t width = LEFT + SPAN + RIGHT, height = TOP + c->lanes * LANE + BOTTOM + NOTE;
    pac_emit(e,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%lld\" height=\"%lld\" viewBox=\"0 0 %lld %lld\" "
             "font-family=\"sans-serif\" font-size=\"11\">\n<style>\n",
             (long long)width, (long long)height, (long long)width, (long long)height);
    for (int i = 0; i < STYLES; i++)
        if (styles[i].name != NULL)
            pac_emit(e, ".%s{fill:%s;stroke:none}", styles[i].name, styles[i].colour);
    pac_emit(
        e, "\n.idle{fill:#f0f0f0;stroke:none}.grid{stroke:#d8d8d8}.m{fill:white;stroke:none;text-anchor:middle;font-size:10px}"
           ".bytes{fill:#d5dbe0;stroke:#70808c}.over{fill:#f3c6c4;stroke:#c0392b}.budget{stroke:#c0392b;stroke-dasharray:5 3}"
           ".small{fill:#555;font-size:10px}.axis{text-anchor:middle}\n</style>\n"
           "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
}

static void emit_title(chart *c)
{
    const pac_plan *p = c->q->plan;
    char shape[64];
    pac_plan_shape(p, shape, sizeof shape);
    int64_t M = p->microbatches < c->q->run->batch ? p->microbatches : c->q->run->batch;
    pac_emit(&c->out, "<text x=\"12\" y=\"24\" font-size=\"16\">Simulated mini-batch (not measured): %.4g s</text>\n", c->end);
    pac_emit(&c->out,
             "<text x=\"12\" y=\"42\" class=\"small\">schedule %s; devices by stage %s; %lld sample%s in %lld micro-batch%s",
             schedule_name(c->q->schedule), shape, (long long)c->q->run->batch, PAC_PLURAL(c->q->run->batch, "s"), (long long)M,
             PAC_PLURAL(M, "es"));
    if (c->q->profile->model[0] != '\0') {
        pac_emit(&c->out, "; ");
        emit_name(&c->out, c->q->profile->model, 60);
        pac_emit(&c->out, ", %s", c->q->profile->technique);
    }
    pac_emit(&c->out, "</text>\n");
}

static void emit_key(chart *c, double *x, const char *class, const char *label)
{
    pac_emit(&c->out,
             "<rect class=\"%s\" x=\"%.0f\" y=\"56\" width=\"12\" height=\"12\"/><text x=\"%.0f\" y=\"66\">%s</text>\n", class,
             *x, *x + 16, label);
    *x += 32 + 6.2 * (double)strlen(label);
}

static void emit_legend(chart *c)
{
    double x = 12;
    for (int i = 0; i < STYLES; i++)
        if (styles[i].name != NULL)
            emit_key(c, &x, styles[i].name, styles[i].label);
    emit_key(c, &x, "idle", "idle");
    emit_key(c, &x, "bytes", "bytes");
    emit_key(c, &x, "over", "bytes that do not fit");
    pac_emit(&c->out,
             "<line class=\"budget\" x1=\"%.0f\" x2=\"%.0f\" y1=\"62\" y2=\"62\"/><text x=\"%.0f\" y=\"66\">budget</text>\n", x,
             x + 20, x + 25);
}

static void emit_axis(chart *c)
{
    double bottom = TOP + (double)(c->lanes * LANE), step = c->end > 0 ? tick(c->end) : 1;
    const char *unit = c->end < 1 ? "ms" : "s";
    double scale = c->end < 1 ? 1e3 : 1;
    for (int64_t i = 0; (double)i * step <= c->end * (1 + 1e-9); i++) {
        double x = x_of(c, (double)i * step);
        pac_emit(&c->out, "<line class=\"grid\" x1=\"%.2f\" x2=\"%.2f\" y1=\"%d\" y2=\"%.0f\"/>", x, x, TOP - 4, bottom);
        pac_emit(&c->out, "<text class=\"axis\" x=\"%.2f\" y=\"%.0f\">%.4g</text>\n", x, bottom + 14, (double)i * step * scale);
    }
    pac_emit(&c->out, "<text class=\"axis\" x=\"%d\" y=\"%.0f\">time of the simulated mini-batch, %s</text>\n", LEFT + SPAN / 2,
             bottom + 32, unit);
}

/* Devices that do nothing have no lane. */
static void emit_left_out(chart *c)
{
    int64_t n = 0;
    for (int64_t d = 0; d < c->s->devices; d++) {
        if (c->stage[d] >= 0 || n++ >= NAMED)
            continue;
        if (n == 1)
            pac_emit(&c->out,
                     "<text x=\"12\" y=\"%lld\" class=\"small\">left out, idle: ", (long long)(TOP + c->lanes * LANE + BOTTOM));
        pac_emit(&c->out, "%s", n > 1 ? ", " : "");
        emit_name(&c->out, c->q->profile->device[d].name, 24);
    }
    if (n > NAMED)
        pac_emit(&c->out, " and %lld more", (long long)(n - NAMED));
    if (n > 0)
        pac_emit(&c->out, "</text>\n");
}

/* ---- a lane ---- */

static void emit_label(chart *c, int64_t lane, double y)
{
    int64_t d = c->device[lane], stage = c->stage[d];
    pac_emit(&c->out, "<text x=\"12\" y=\"%.0f\">", y + 11);
    emit_name(&c->out, c->q->profile->device[d].name, 24);
    pac_emit(&c->out, "</text><text x=\"12\" y=\"%.0f\" class=\"small\">", y + 24);
    const pac_stage_plan *st = &c->q->plan->stage[stage];
    pac_emit(&c->out, "stage %lld, layers %lld-%lld, %.0f %%</text>\n", (long long)stage, (long long)st->first,
             (long long)st->last - 1, 100 * st->share[c->member[d]]);
}

/* Far above everything a device needs, its budget would leave no room for what changes. */
static bool off_scale(const pac_sim_device *d)
{
    return d->budget > 2 * d->peak_bytes;
}

static void emit_numbers(chart *c, const pac_sim_device *d, double y)
{
    char peak[32], budget[32];
    double x = LEFT + SPAN + 8, all = d->busy + d->idle;
    pac_emit(&c->out, "<text x=\"%.0f\" y=\"%.0f\">idle %.1f %%</text>", x, y + 16, all > 0 ? 100 * d->idle / all : 100);
    pac_emit(&c->out, "<text x=\"%.0f\" y=\"%.0f\" class=\"small\">%s%s</text>", x, y + COMPUTE + 2 * LINK + 11,
             d->points > 0 ? "peak " : "", d->points > 0 ? pac_bytes_text(d->peak_bytes, peak) : "");
    pac_emit(&c->out, "<text x=\"%.0f\" y=\"%.0f\" class=\"small\">of %s%s</text>\n", x, y + COMPUTE + 2 * LINK + 24,
             pac_bytes_text(d->budget, budget),
             !d->fits       ? ": too much"
             : off_scale(d) ? " (off the scale)"
                            : "");
}

/* Bytes from one point to the next as steps, closed along the bottom. */
static void emit_bytes(chart *c, const pac_sim_device *d, double y)
{
    double most = off_scale(d) ? d->peak_bytes : fmax(d->peak_bytes, d->budget), bottom = y + COMPUTE + 2 * LINK + BYTES;
    double scale = most > 0 ? (BYTES - 3) / most : 0;
    if (d->points == 0)
        return;
    pac_emit(&c->out, "<path class=\"%s\" d=\"M%d,%.1f", d->fits ? "bytes" : "over", LEFT, bottom);
    for (int64_t i = 0; i < d->points; i++) {
        double until = i + 1 < d->points ? d->time[i + 1] : c->end, height = bottom - d->bytes[i] * scale;
        if (until > d->time[i])
            pac_emit(&c->out, "L%.2f,%.2f L%.2f,%.2f", x_of(c, d->time[i]), height, x_of(c, until), height);
    }
    pac_emit(&c->out, "L%d,%.1f Z\"/>\n", LEFT + SPAN, bottom);
    if (!off_scale(d))
        pac_emit(&c->out, "<line class=\"budget\" x1=\"%d\" x2=\"%d\" y1=\"%.2f\" y2=\"%.2f\"/>\n", LEFT, LEFT + SPAN,
                 bottom - d->budget * scale, bottom - d->budget * scale);
}

static void emit_lane(chart *c, int64_t lane)
{
    double y = TOP + (double)(lane * LANE);
    const pac_sim_device *d = &c->s->device[c->device[lane]];
    pac_emit(&c->out, "<rect class=\"idle\" x=\"%d\" y=\"%.0f\" width=\"%d\" height=\"%d\"/>\n", LEFT, y, SPAN, COMPUTE);
    emit_label(c, lane, y);
    emit_numbers(c, d, y);
    emit_bytes(c, d, y);
}

static void emit_event(chart *c, const pac_sim_event *e)
{
    const struct style *st = &styles[e->kind];
    double x = x_of(c, e->start), width = x_of(c, e->end) - x, y = TOP + (double)(c->lane_of[e->device] * LANE + st->top);
    if (!(width > 0))
        return;
    pac_emit(&c->out, "<rect class=\"%s\" x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\"><title>%s", st->name, x, y,
             width > 3 ? width - 0.6 : width, st->height, st->label);
    if (e->m >= 0)
        pac_emit(&c->out, " %lld", (long long)e->m);
    pac_emit(&c->out, ": %.6g to %.6g s</title></rect>", e->start, e->end);
    if (e->m >= 0 && e->peer < 0 && width > (e->m > 9 ? 15 : 9))
        pac_emit(&c->out, "<text class=\"m\" x=\"%.2f\" y=\"%.0f\">%lld</text>", x + width / 2, y + 16, (long long)e->m);
    pac_emit(&c->out, "\n");
}

/* ---- the whole ---- */

/* Lanes in the order of stages. */
static void place(chart *c)
{
    for (int64_t d = 0; d < c->s->devices; d++)
        c->stage[d] = -1;
    for (int64_t i = 0; i < c->q->plan->stages; i++)
        for (int64_t r = 0; r < c->q->plan->stage[i].ranks; r++) {
            int64_t d = c->q->plan->stage[i].rank[r];
            c->stage[d] = i;
            c->member[d] = r;
            c->device[c->lanes++] = d;
        }
    for (int64_t i = 0; i < c->lanes; i++)
        c->lane_of[c->device[i]] = i;
    for (int64_t i = 0; i < c->s->events; i++)
        c->end = fmax(c->end, c->s->event[i].end);
}

pac_err pac_simulation_svg(const pac_sim_request *q, const pac_simulation *s, const char *path)
{
    chart c = {.q = q, .s = s};
    place(&c);
    begin(&c);
    emit_title(&c);
    emit_legend(&c);
    for (int64_t i = 0; i < c.lanes; i++)
        emit_lane(&c, i);
    emit_axis(&c);
    emit_left_out(&c);
    for (int64_t i = 0; i < s->events; i++)
        emit_event(&c, &s->event[i]);
    pac_emit(&c.out, "</svg>\n");
    return pac_emit_save(&c.out, path);
}
