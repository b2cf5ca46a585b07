/* The parts that all scripts for gnuplot have in common: their beginning, and the text and numbers
   in them. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/plot/plot.h"

/* Okabe and Ito's, which colour-blind readers can tell apart, without the yellow, which white
   paper swallows; each is of another lightness. */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                      "#E69F00", "#56B4E9", "#000000"};
static const int points[] = {7, 5, 9, 11, 13, 6, 4, 8, 10, 12};
static const char *const dashes[] = {"1", "(9,4)", "(2,3)", "(9,3,2,3)", "(14,3,2,3,2,3)"};

enum { COLOURS = 7, POINTS = 10, DASHES = 5 };

const char *script_colour(size_t i)
{
    return colours[i % COLOURS];
}

void script_style(struct script *script, size_t i)
{
    script_add(script, "lc rgb '%s' dt %s pt %d lw 2 ps 0.8", script_colour(i), dashes[i % DASHES],
               points[i % POINTS]);
}

void script_add(struct script *script, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(script->stream, format, arguments);
    va_end(arguments);
}

void script_begin(struct plot_command *command)
{
    struct script *script = &command->script;
    script->stream = memory_of(open_memstream(&script->text, &script->size));
    /* Standalone: images are inside the SVG, not in files beside it. */
    if (command->format == PICTURE_SVG)
        script_add(script,
                   "set terminal svg size %d,%d font 'sans-serif,12' noenhanced standalone "
                   "background rgb 'white'\n",
                   command->width, command->height);
    else
        script_add(script,
                   "set terminal pngcairo size %d,%d font 'Sans,10' noenhanced "
                   "background rgb 'white'\n",
                   command->width, command->height);
    script_add(script, "set encoding utf8\nset datafile missing 'NaN'\n"
                       "set border 3 lc rgb '#404040'\nset tics nomirror out\n"
                       "set grid lt 1 lw 0.5 lc rgb '#d0d0d0'\n");
}

void script_text(struct script *script, const char *text, size_t most)
{
    uint32_t character;
    bool safe;
    const char *at = text;
    fputc('\'', script->stream);
    for (size_t count = 0, length; *at; count++, at += length) {
        if (count == most) {
            fputs("...", script->stream);
            break;
        }
        length = ivon_text_character(at, &character, &safe);
        bool none = (character & 0xfffe) == 0xfffe; /* which XML may not hold */
        /* XML's text may not hold "]]>" either, and gnuplot leaves it. */
        if (*at == '>' && at - text >= 2 && at[-1] == ']' && at[-2] == ']')
            fputc(' ', script->stream);
        if (*at == '\'')
            fputs("\u2019", script->stream);
        else if (safe && !none)
            fwrite(at, 1, length, script->stream);
        else
            fputc('?', script->stream);
    }
    fputc('\'', script->stream);
}

void script_title(struct plot_command *command)
{
    script_text(&command->script, command->title, (size_t)(command->width / CHARACTER));
}

void script_number(struct script *script, double number)
{
    if (isfinite(number))
        script_add(script, "%.9g", number);
    else
        script_add(script, "NaN");
}

size_t script_open_block(struct script *script)
{
    script_add(script, "$b%zu << EOD\n", script->blocks);
    return script->blocks++;
}

void script_close_block(struct script *script)
{
    script_add(script, "EOD\n");
}

/* Ranges. */

struct range range_empty(void)
{
    return (struct range){INFINITY, -INFINITY};
}

void range_add(struct range *range, double value)
{
    if (!isfinite(value))
        return;
    range->low = fmin(range->low, value);
    range->high = fmax(range->high, value);
}

/* The distance of at most six marks: 1, 2 or 5 times a power of ten. */
static double mark_distance(double length)
{
    double power = pow(10, floor(log10(length / 6))), times = length / 6 / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

void script_range(struct script *script, char axis, struct range range, bool logarithmic)
{
    if (!(range.low <= range.high))
        range = (struct range){logarithmic ? 1 : 0, 1};
    if (logarithmic) {
        double margin = fmax(pow(range.high / range.low, 0.04), 1.05);
        script_add(script, "set %crange [%.9g:%.9g]\n", axis, range.low / margin,
                   range.high * margin);
        return;
    }
    double size = fmax(fabs(range.low), fabs(range.high)), length = range.high - range.low;
    double margin = length > 1e-6 * size ? 0.04 * length : size > 0 ? 0.05 * size : 1;
    script_add(script, "set %crange [%.9g:%.9g]\nset %ctics %.9g\n", axis, range.low - margin,
               range.high + margin, axis, mark_distance(length + 2 * margin));
}

void script_counts(struct script *script, double most)
{
    most = most > 0 ? most : 1;
    script_add(script, "set yrange [0:%.9g]\nset ytics %.9g\nset format y '%%.0f'\n", 1.05 * most,
               fmax(mark_distance(most), 1));
}
