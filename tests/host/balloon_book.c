/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * balloon_book.c: the pages that the guest has given, as the host sees them: one sorted list of ranges.
 */
#include "tests/host/balloon.h"

/* Index of the first range that ends behind the page. */
static uint32_t find(const struct balloon_book *book, uint64_t page)
{
    uint32_t low = 0, high = book->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (book->range[middle].first + book->range[middle].pages <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool balloon_book_overlaps(const struct balloon_book *book, uint64_t first, uint64_t pages)
{
    uint32_t i = find(book, first);

    return i < book->count && book->range[i].first < first + pages;
}

/* Room for one more range at index i. */
static bool insert_at(struct host_balloon *b, uint32_t i)
{
    struct balloon_book *book = &b->book;

    if (book->count == book->room) {
        uint32_t room = book->room ? 2 * book->room : 64;
        struct balloon_range *more = host_alloc(b->h, room * sizeof(*more));
        if (more == NULL) {
            host_log(b->h, HOST_LOG_ERROR, "balloon: no memory for its book");
            return false;
        }
        if (book->count)
            memcpy(more, book->range, book->count * sizeof(*more));
        host_free(b->h, book->range);
        book->range = more;
        book->room = room;
    }
    memmove(&book->range[i + 1], &book->range[i], (book->count - i) * sizeof(*book->range));
    book->count++;
    return true;
}

static void remove_at(struct balloon_book *book, uint32_t i)
{
    book->count--;
    memmove(&book->range[i], &book->range[i + 1], (book->count - i) * sizeof(*book->range));
}

bool balloon_book_add(struct host_balloon *b, uint64_t first, uint64_t pages)
{
    struct balloon_book *book = &b->book;
    uint32_t i = find(book, first);
    bool left = i > 0 && book->range[i - 1].first + book->range[i - 1].pages == first;
    bool right = i < book->count && book->range[i].first == first + pages;

    if (balloon_book_overlaps(book, first, pages))
        return false;
    if (left) {
        book->range[i - 1].pages += pages;
        if (right) {
            book->range[i - 1].pages += book->range[i].pages;
            remove_at(book, i);
        }
    } else if (right) {
        book->range[i].first = first;
        book->range[i].pages += pages;
    } else {
        if (!insert_at(b, i))
            return false;
        book->range[i] = (struct balloon_range){first, pages};
    }
    book->pages += pages;
    return true;
}

static uint64_t random_below(struct host_balloon *b, uint64_t limit)
{
    b->random = b->random * 6364136223846793005ull + 1442695040888963407ull;
    return (b->random >> 33) % limit;
}

struct balloon_range balloon_book_cut(struct host_balloon *b, uint64_t max)
{
    struct balloon_book *book = &b->book;
    struct balloon_range cut = {0, 0}, *r;
    uint32_t i;

    if (book->count == 0 || max == 0)
        return cut;
    i = (uint32_t)random_below(b, book->count);
    r = &book->range[i];
    if (r->pages <= max) {
        cut = *r;
        remove_at(book, i);
    } else {
        /* from its start, its end or somewhere between */
        uint64_t before = random_below(b, 3) == 0 ? 0 : random_below(b, r->pages - max + 1);
        cut = (struct balloon_range){r->first + before, max};
        if (before == 0) {
            r->first += max;
            r->pages -= max;
        } else if (before + max == r->pages) {
            r->pages -= max;
        } else {
            if (!insert_at(b, i))
                return (struct balloon_range){0, 0};
            r = &book->range[i];
            r[1].first = cut.first + max;
            r[1].pages -= before + max;
            r[0].pages = before;
        }
    }
    book->pages -= cut.pages;
    return cut;
}

void balloon_book_clear(struct host_balloon *b)
{
    b->book.count = 0;
    b->book.pages = 0;
}
