/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log on a linear frame buffer, in a font of 5 by 7 dots drawn for it; each dot is one pixel wide and two high.
 *
 * Frame buffers are slow, above all to read: the text is kept in memory, and when it scrolls only the cells whose character
 * changes are drawn again. Output only; 32 bits per pixel; a geometry that makes no sense is refused with one line.
 */
#define LOG_ROOM "console"
#include <string.h>
#include "arch/arch.h"
#include "drivers/drivers.h"
#include "mm/mm.h"

#define CELL_WIDTH   8
#define CELL_HEIGHT  16
#define GLYPH_ROWS   7
#define GLYPH_LEFT   1           /* pixels free before the dots */
#define FIRST_CHAR   ' '
#define LAST_CHAR    '~'
#define COLUMNS_MAX  240u        /* larger screens are not filled */
#define ROWS_MAX     90u
#define PIXELS_MAX   16384u      /* in either direction */
#define COLOUR_TEXT  0x00D0D0D0u /* grey: the same in either byte order */

/* Seven rows of five dots for each character from space to tilde; bit 4 is the leftmost dot. */
static const char font[LAST_CHAR - FIRST_CHAR + 1][GLYPH_ROWS + 1] = {
    "\x00\x00\x00\x00\x00\x00\x00", "\x04\x04\x04\x04\x04\x00\x04", "\x0A\x0A\x0A\x00\x00\x00\x00", "\x0A\x0A\x1F\x0A\x1F\x0A\x0A",
    "\x04\x0F\x14\x0E\x05\x1E\x04", "\x18\x19\x02\x04\x08\x13\x03", "\x0C\x12\x14\x08\x15\x12\x0D", "\x04\x04\x08\x00\x00\x00\x00",
    "\x02\x04\x08\x08\x08\x04\x02", "\x08\x04\x02\x02\x02\x04\x08", "\x00\x04\x15\x0E\x15\x04\x00", "\x00\x04\x04\x1F\x04\x04\x00",
    "\x00\x00\x00\x00\x0C\x04\x08", "\x00\x00\x00\x1F\x00\x00\x00", "\x00\x00\x00\x00\x00\x0C\x0C", "\x00\x01\x02\x04\x08\x10\x00",
    "\x0E\x11\x13\x15\x19\x11\x0E", "\x04\x0C\x04\x04\x04\x04\x0E", "\x0E\x11\x01\x02\x04\x08\x1F", "\x1F\x02\x04\x02\x01\x11\x0E",
    "\x02\x06\x0A\x12\x1F\x02\x02", "\x1F\x10\x1E\x01\x01\x11\x0E", "\x06\x08\x10\x1E\x11\x11\x0E", "\x1F\x01\x02\x04\x08\x08\x08",
    "\x0E\x11\x11\x0E\x11\x11\x0E", "\x0E\x11\x11\x0F\x01\x02\x0C", "\x00\x0C\x0C\x00\x0C\x0C\x00", "\x00\x0C\x0C\x00\x0C\x04\x08",
    "\x02\x04\x08\x10\x08\x04\x02", "\x00\x00\x1F\x00\x1F\x00\x00", "\x08\x04\x02\x01\x02\x04\x08", "\x0E\x11\x01\x02\x04\x00\x04",
    "\x0E\x11\x01\x0D\x15\x15\x0E", "\x0E\x11\x11\x11\x1F\x11\x11", "\x1E\x11\x11\x1E\x11\x11\x1E", "\x0E\x11\x10\x10\x10\x11\x0E",
    "\x1C\x12\x11\x11\x11\x12\x1C", "\x1F\x10\x10\x1E\x10\x10\x1F", "\x1F\x10\x10\x1E\x10\x10\x10", "\x0E\x11\x10\x17\x11\x11\x0F",
    "\x11\x11\x11\x1F\x11\x11\x11", "\x0E\x04\x04\x04\x04\x04\x0E", "\x07\x02\x02\x02\x02\x12\x0C", "\x11\x12\x14\x18\x14\x12\x11",
    "\x10\x10\x10\x10\x10\x10\x1F", "\x11\x1B\x15\x15\x11\x11\x11", "\x11\x11\x19\x15\x13\x11\x11", "\x0E\x11\x11\x11\x11\x11\x0E",
    "\x1E\x11\x11\x1E\x10\x10\x10", "\x0E\x11\x11\x11\x15\x12\x0D", "\x1E\x11\x11\x1E\x14\x12\x11", "\x0F\x10\x10\x0E\x01\x01\x1E",
    "\x1F\x04\x04\x04\x04\x04\x04", "\x11\x11\x11\x11\x11\x11\x0E", "\x11\x11\x11\x11\x11\x0A\x04", "\x11\x11\x11\x15\x15\x15\x0A",
    "\x11\x11\x0A\x04\x0A\x11\x11", "\x11\x11\x11\x0A\x04\x04\x04", "\x1F\x01\x02\x04\x08\x10\x1F", "\x0E\x08\x08\x08\x08\x08\x0E",
    "\x00\x10\x08\x04\x02\x01\x00", "\x0E\x02\x02\x02\x02\x02\x0E", "\x04\x0A\x11\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x1F",
    "\x08\x04\x02\x00\x00\x00\x00", "\x00\x00\x0E\x01\x0F\x11\x0F", "\x10\x10\x16\x19\x11\x11\x1E", "\x00\x00\x0E\x10\x10\x11\x0E",
    "\x01\x01\x0D\x13\x11\x11\x0F", "\x00\x00\x0E\x11\x1F\x10\x0E", "\x06\x09\x08\x1C\x08\x08\x08", "\x00\x0F\x11\x11\x0F\x01\x0E",
    "\x10\x10\x16\x19\x11\x11\x11", "\x04\x00\x0C\x04\x04\x04\x0E", "\x02\x00\x06\x02\x02\x12\x0C", "\x10\x10\x12\x14\x18\x14\x12",
    "\x0C\x04\x04\x04\x04\x04\x0E", "\x00\x00\x1A\x15\x15\x11\x11", "\x00\x00\x16\x19\x11\x11\x11", "\x00\x00\x0E\x11\x11\x11\x0E",
    "\x00\x00\x1E\x11\x1E\x10\x10", "\x00\x00\x0D\x13\x0F\x01\x01", "\x00\x00\x16\x19\x10\x10\x10", "\x00\x00\x0E\x10\x0E\x01\x1E",
    "\x08\x08\x1C\x08\x08\x09\x06", "\x00\x00\x11\x11\x11\x13\x0D", "\x00\x00\x11\x11\x11\x0A\x04", "\x00\x00\x11\x11\x15\x15\x0A",
    "\x00\x00\x11\x0A\x04\x0A\x11", "\x00\x00\x11\x11\x0F\x01\x0E", "\x00\x00\x1F\x02\x04\x08\x1F", "\x02\x04\x04\x08\x04\x04\x02",
    "\x04\x04\x04\x04\x04\x04\x04", "\x08\x04\x04\x02\x04\x04\x08", "\x00\x00\x08\x15\x02\x00\x00",
};

static volatile uint32_t *pixels;
static uint32_t stride, scale;
static unsigned columns, rows, column, row;
static char text[ROWS_MAX][COLUMNS_MAX];

static void draw(unsigned r, unsigned c)
{
    const char *glyph = font[text[r][c] - FIRST_CHAR];
    volatile uint32_t *cell = pixels + (uint64_t)r * CELL_HEIGHT * scale * stride + (uint64_t)c * CELL_WIDTH * scale;
    for (unsigned y = 0; y < CELL_HEIGHT * scale; y++, cell += stride) {
        unsigned line = y / scale / 2, dots = line < GLYPH_ROWS ? (unsigned char)glyph[line] : 0;
        for (unsigned x = 0; x < CELL_WIDTH * scale; x++) {
            unsigned bit = 4 + GLYPH_LEFT - x / scale;
            cell[x] = bit <= 4 && (dots >> bit & 1) ? COLOUR_TEXT : 0;
        }
    }
}

static void show(unsigned r, unsigned c, char ch)
{
    if (text[r][c] == ch)
        return;
    text[r][c] = ch;
    draw(r, c);
}

static void new_line(void)
{
    column = 0;
    if (++row < rows)
        return;
    row = rows - 1;
    for (unsigned r = 0; r + 1 < rows; r++) {
        for (unsigned c = 0; c < columns; c++)
            show(r, c, text[r + 1][c]);
    }
    for (unsigned c = 0; c < columns; c++)
        show(row, c, ' ');
}

static void write_text(struct log_sink *sink, const char *s, size_t bytes)
{
    (void)sink;
    for (size_t i = 0; i < bytes; i++) {
        if (s[i] == '\n') {
            new_line();
            continue;
        }
        if (column == columns)
            new_line();
        show(row, column++, s[i] >= FIRST_CHAR && s[i] <= LAST_CHAR ? s[i] : '?');
    }
}

void console_framebuffer_init(const struct framebuffer *fb)
{
    static struct log_sink sink = {.write = write_text};
    if (pa_is_none(fb->address) || pixels != NULL)
        return;
    if (fb->width < 80 * CELL_WIDTH || fb->height < 25 * CELL_HEIGHT || fb->width > PIXELS_MAX || fb->height > PIXELS_MAX ||
        fb->stride_pixels < fb->width || fb->stride_pixels > PIXELS_MAX || !IS_ALIGNED(fb->address.v, 4ull)) {
        log_warn("frame buffer of %ux%u, %u pixels a line, at 0x%llx is not used", fb->width, fb->height,
                 fb->stride_pixels, (unsigned long long)fb->address.v);
        return;
    }
    stride = fb->stride_pixels;
    scale = fb->width >= 2560 ? 2 : 1;
    columns = MIN(fb->width / (CELL_WIDTH * scale), COLUMNS_MAX);
    rows = MIN(fb->height / (CELL_HEIGHT * scale), ROWS_MAX);
    pixels = mm_map_phys(fb->address, (uint64_t)stride * fb->height * 4, MAP_READ | MAP_WRITE | MAP_WC);
    if (pixels == NULL) {
        log_warn("no memory to map the frame buffer");
        return;
    }
    memset(text, ' ', sizeof text);
    for (uint64_t i = 0; i < (uint64_t)stride * fb->height; i++)
        pixels[i] = 0;
    log_add_sink(&sink);
    log_debug("frame buffer of %ux%u, %ux%u characters", fb->width, fb->height, columns, rows);
}
