/* Scores rows in compiled code: hashes keys, looks up codes and multiplies through the network. saec/build_kernel.py
 * builds it; saec/serving/compiled.py calls it with numpy's memory. Scoring in numpy gives the same and is the
 * reference (docs/format.md says what is computed). Building an index is here too (saec/compression/peeling.py).
 *
 * Decisions:
 * - Nothing is allocated or kept here, so there is nothing to free and any number of threads may call.
 * - A request's columns come in one buffer, which contains offsets; each is checked against the buffer's length before
 *   it is followed. What does not fit is refused by returning 1, and numpy then says what is wrong.
 * - Everything that is linear in a codeword was computed when the version was opened: the first layers of a row are
 *   sums of rows of that table. The sum over the fields that all rows share is computed once.
 * - Of an ensemble, each member adds its share of the logits; the second finds the index's cells in the cache.
 * - The part with the products is compiled three times, for vectors of 4, 8 and 16 numbers; for this, the file includes
 *   itself. The processor decides which one is used, when the process starts.
 *
 * Shapes: B rows, F fields, S slots, T codewords, P numbers of a row of the table, D width, R rank, X numbers of fields.
 */
#ifndef LANES

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define ALWAYS static inline __attribute__((always_inline))
#define BLOCK 48        /* rows taken through the network together: a multiple of all ROWS below */
#define AT_ONCE 64      /* keys looked up together, so that their cells are fetched from memory at the same time */
#define MOST_LAYERS 8   /* cross layers; the limit of saec/data/schema.py */
#define MOST_PARTS 8    /* fields of a cross; the limit of the same */
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)
#define SHARD_SEED UINT64_C(0xD1B54A32D192ED03)

enum { CATEGORICAL, LIST, NUMERIC, HOUR_OF_DAY, DAY_OF_WEEK, SINGLES };  /* SINGLES: numbers as 32-bit floats */
enum { SIGNED, UNSIGNED, FLOATS, TEXTS };

/* A field and a cross as compiled.py packs them: 64 bits a member. */
typedef struct {
    int64_t kind, slots;
    uint64_t key[2], null, empty;
    int64_t capped, cap, edges, first_edge;
} Field;

typedef struct {
    int64_t parts, part[MOST_PARTS];
    uint64_t key[2];
} Cross;

/* One field's column in a request's buffer: places count bytes from its start; -1 means no index, or no lengths. */
typedef struct {
    int64_t type, values, count, ends, index, places, lengths, rows;
} Column;

typedef struct {
    int64_t isa, fields, slots, width, deep, layers, rank, hidden, codewords, row, words, shards, pairs;
    const int64_t *field_slots, *counts, *starts;          /* [F]: slots, clusters, first codeword */
    const uint32_t *cells;
    const uint64_t *layouts, *shard_starts;                 /* [H][6] and [H], in cells */
    const float *table;                                     /* [T+1][P], the last row zeros */
    const float *start;                                     /* [P]: biases */
    const int64_t *units;                                   /* [hidden]: units of each hidden layer */
    const float *const *weights, *const *biases;            /* of the hidden layers from the second on, packed */
    const float *last;                                      /* [units]: the deep part's output */
    double cap, bias, share;                                /* share: of the logits, 1 where there is one member */
} Model;

/* The cross layers' weights: for the fields that they take row by row, and for those that all rows share. */
typedef struct {
    const uint8_t *own;                                     /* [F]: whether a field is taken row by row */
    int64_t own_numbers, shared_numbers;
    const float *const *ups, *const *downs;                 /* own, packed: [layers-1] [R][X], [layers-1] [X][R] */
    const float *const *shared_ups, *const *shared_downs;   /* shared: [layers-1] [R][X] as it is; packed [X][R] */
} Plan;

ALWAYS uint64_t load64(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, 8);
    return word;
}

/* SipHash-2-4 */

#define ROTATED(x, by) (((x) << (by)) | ((x) >> (64 - (by))))
#define ROUND                                                       \
    do {                                                            \
        v0 += v1; v1 = ROTATED(v1, 13); v1 ^= v0; v0 = ROTATED(v0, 32); \
        v2 += v3; v3 = ROTATED(v3, 16); v3 ^= v2;                   \
        v0 += v3; v3 = ROTATED(v3, 21); v3 ^= v0;                   \
        v2 += v1; v1 = ROTATED(v1, 17); v1 ^= v2; v2 = ROTATED(v2, 32); \
    } while (0)

ALWAYS uint64_t siphash(const uint8_t *bytes, int64_t size, const uint64_t key[2]) {
    uint64_t v0 = key[0] ^ UINT64_C(0x736F6D6570736575), v1 = key[1] ^ UINT64_C(0x646F72616E646F6D);
    uint64_t v2 = key[0] ^ UINT64_C(0x6C7967656E657261), v3 = key[1] ^ UINT64_C(0x7465646279746573);
    uint64_t last = (uint64_t)size << 56;
    int64_t whole = size & ~(int64_t)7;
    for (int64_t at = 0; at < whole; at += 8) {
        uint64_t word = load64(bytes + at);
        v3 ^= word; ROUND; ROUND; v0 ^= word;
    }
    for (int64_t at = whole; at < size; at++)
        last |= (uint64_t)bytes[at] << (8 * (at - whole));
    v3 ^= last; ROUND; ROUND; v0 ^= last;
    v2 ^= 0xFF; ROUND; ROUND; ROUND; ROUND;
    uint64_t hash = v0 ^ v1 ^ v2 ^ v3;
    return hash ? hash : 1;
}

ALWAYS uint64_t siphash_word(uint64_t word, const uint64_t key[2]) {
    return siphash((const uint8_t *)&word, 8, key);
}

/* From a request's columns to keys */

ALWAYS int inside(int64_t place, int64_t count, int64_t size, int64_t length) {
    return place >= 0 && count >= 0 && place <= length && count <= (length - place) / size;
}

static int64_t bucket(double number, const double *edges, int64_t count) {
    if (count) {
        int64_t low = 0, high = count;
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (edges[middle] <= number) low = middle + 1; else high = middle;
        }
        return low;
    }
    if (number == 0) return 0;
    int exponent;
    double mantissa = frexp(fabs(number), &exponent);
    int64_t logarithm = 2 * (int64_t)exponent + (mantissa >= 0x1.6A09E667F3BCDp-1) + 4096;
    return number < 0 ? -logarithm : logarithm;
}

/* The key of one value of a column; 0 if it is not finite or if the field does not take it. */
ALWAYS uint64_t value_key(const Field *field, const Column *column, const uint8_t *buffer, const double *edges,
                          int64_t place) {
    if (column->type == TEXTS) {
        int64_t end = (int64_t)load64(buffer + column->ends + 8 * place);
        int64_t start = place ? (int64_t)load64(buffer + column->ends + 8 * (place - 1)) : 0;
        return siphash(buffer + column->values + start, end - start, field->key);
    }
    uint64_t word = load64(buffer + column->values + 8 * place);
    if (field->kind == NUMERIC || field->kind == SINGLES) {
        double number;
        memcpy(&number, &word, 8);
        if (column->type == SIGNED) number = (double)(int64_t)word;
        if (column->type == UNSIGNED) number = (double)word;
        if (!isfinite(number)) return 0;
        if (field->kind == SINGLES) number = fabs(number) > FLT_MAX ? copysign(FLT_MAX, number) : (double)(float)number;
        word = (uint64_t)bucket(number, edges + field->first_edge, field->edges);
    } else if (column->type == FLOATS) {
        return 0;
    } else if (field->kind == HOUR_OF_DAY || field->kind == DAY_OF_WEEK) {
        const int64_t day_ms = 86400000, time = (int64_t)word;
        int64_t day = time / day_ms - (time % day_ms < 0), rest = time % day_ms + (time % day_ms < 0 ? day_ms : 0);
        word = (uint64_t)(field->kind == HOUR_OF_DAY ? rest / 3600000 : ((day + 3) % 7 + 7) % 7);
    } else if (field->capped) {
        if (column->type == UNSIGNED) word = word > (uint64_t)field->cap ? (uint64_t)field->cap : word;
        else word = (int64_t)word > field->cap ? (uint64_t)field->cap : word;
    }
    return siphash_word(word, field->key);
}

/* Whether everything that a column points to lies in the buffer. */
static int column_fits(const Field *field, const Column *column, const uint8_t *buffer, int64_t length) {
    if (column->type < SIGNED || column->type > TEXTS || column->rows < 1) return 0;
    if (!inside(column->values, column->type == TEXTS ? 0 : column->count, 8, length)) return 0;
    int64_t count = column->count;
    if (column->type == TEXTS) {
        if (field->kind != CATEGORICAL && field->kind != LIST) return 0;
        if (!inside(column->ends, count, 8, length)) return 0;
        int64_t last = 0, most = length - column->values;
        for (int64_t place = 0; place < count; place++) {
            int64_t end = (int64_t)load64(buffer + column->ends + 8 * place);
            if (end < last || end > most) return 0;
            last = end;
        }
    }
    if (column->index >= 0) {
        if (!inside(column->index, column->places, 8, length)) return 0;
        for (int64_t place = 0; place < column->places; place++) {
            int64_t number = (int64_t)load64(buffer + column->index + 8 * place);
            if (number < -1 || number >= count) return 0;
        }
        count = column->places;
    }
    if ((field->kind == LIST) != (column->lengths >= 0)) return 0;
    if (field->kind != LIST) return column->rows == count;
    if (!inside(column->lengths, column->rows, 8, length)) return 0;
    int64_t used = 0;
    for (int64_t row = 0; row < column->rows; row++) {
        int64_t held = (int64_t)load64(buffer + column->lengths + 8 * row);
        if (held > count) return 0;
        used += held > 0 ? held : 0;
        if (used > count) return 0;
    }
    return 1;
}

/* The key at a place of a column; a null has a key too. */
ALWAYS uint64_t place_key(const Field *field, const Column *column, const uint8_t *buffer, const double *edges,
                          int64_t place) {
    int64_t number = column->index < 0 ? place : (int64_t)load64(buffer + column->index + 8 * place);
    return number < 0 ? field->null : value_key(field, column, buffer, edges, number);
}

static int field_keys(const Field *field, const Column *column, const uint8_t *buffer, const double *edges,
                      uint64_t *keys) {
    if (field->kind != LIST) {
        for (int64_t row = 0; row < column->rows; row++)
            if (!(keys[row] = place_key(field, column, buffer, edges, row))) return 1;
        return 0;
    }
    int64_t place = 0;
    for (int64_t row = 0; row < column->rows; row++, keys += field->slots) {
        int64_t held = (int64_t)load64(buffer + column->lengths + 8 * row);
        memset(keys, 0, 8 * (size_t)field->slots);
        if (held <= 0) keys[0] = held ? field->null : field->empty;
        for (int64_t slot = 0; slot < held && slot < field->slots; slot++)
            if (!(keys[slot] = place_key(field, column, buffer, edges, place + slot))) return 1;
        place += held > 0 ? held : 0;
    }
    return 0;
}

/* Write the keys of all fields and crosses, one block after the other: [rows of the field, its slots] each.
 *
 * fields, crosses, edges: the encoder. buffer: a request, which begins with a Column for each field. rows: B.
 * own: whether each field and cross has B rows, or one. before: for each, the number of slots before it, of fields that
 * have B rows and of fields that have one. keys: room for `room` keys. Returns 0, or 1 if the request is refused.
 */
EXPORT int saec_keys(const Field *fields, int64_t field_count, const Cross *crosses, int64_t cross_count,
                     const double *edges, const uint8_t *own, const int64_t (*before)[2], const uint8_t *buffer,
                     int64_t length, int64_t rows, uint64_t *keys, int64_t room) {
    int64_t used = 0;
    if (rows < 1 || !inside(0, field_count, sizeof(Column), length)) return 1;
    for (int64_t number = 0; number < field_count; number++) {
        const Field *field = fields + number;
        Column column;
        memcpy(&column, buffer + number * (int64_t)sizeof(Column), sizeof(Column));
        if (column.rows != (own[number] ? rows : 1) || column.rows > (room - used) / field->slots) return 1;
        if (!column_fits(field, &column, buffer, length)) return 1;
        if (field_keys(field, &column, buffer, edges, keys + used)) return 1;
        used += column.rows * field->slots;
    }
    for (int64_t number = 0; number < cross_count; number++) {
        const Cross *cross = crosses + number;
        int64_t count = own[field_count + number] ? rows : 1;
        if (count > room - used) return 1;
        for (int64_t row = 0; row < count; row++) {
            uint64_t words[MOST_PARTS];
            for (int64_t part = 0; part < cross->parts; part++) {
                const int64_t field = cross->part[part];
                const int64_t place = before[field][0] * rows + before[field][1] + (own[field] ? row : 0);
                if (place >= used) return 1;
                words[part] = keys[place];
            }
            keys[used + row] = siphash((const uint8_t *)words, 8 * cross->parts, cross->key);
        }
        used += count;
    }
    return used != room;
}

/* From keys to codewords */

ALWAYS uint64_t mixed(uint64_t key, uint64_t seed) {
    uint64_t hash = key + seed;
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return hash ^ (hash >> 33);
}

ALWAYS uint64_t cell(const Model *model, uint64_t place, uint64_t width) {
    uint64_t bit = place * width, word = bit >> 5;
    uint64_t high = (int64_t)word + 1 < model->words ? model->cells[word + 1] : 0;
    return ((high << 32) | model->cells[word]) >> (bit & 31);
}

/* Find the rows of the table for some keys of one field, which lie `step` apart; padding gets the row of zeros. */
static void look_up(const Model *model, int64_t field, const uint64_t *keys, int64_t step, int64_t count,
                    int32_t *places) {
    const uint64_t *layouts = model->layouts, code_bits = layouts[4], print_bits = layouts[5];
    const uint64_t width = code_bits + print_bits, codes = (UINT64_C(1) << code_bits) - 1;
    const uint64_t mask = (UINT64_C(1) << width) - 1, start = (uint64_t)model->starts[field];
    const int empty = layouts[1] == 0;
    for (int64_t first = 0; first < count; first += AT_ONCE) {
        uint64_t hashes[AT_ONCE], cells[AT_ONCE][4];
        int64_t some = count - first < AT_ONCE ? count - first : AT_ONCE;
        for (int64_t at = 0; at < some && !empty; at++) {
            uint64_t key = keys[(first + at) * step], shard = 0;
            if (model->shards > 1)
                shard = ((mixed(key, SHARD_SEED) >> 32) * (uint64_t)model->shards) >> 32;
            const uint64_t *layout = layouts + 6 * shard, segment = layout[2], low = segment - 1;
            uint64_t hash = mixed(key, layout[0]), a = ((hash >> 32) * (layout[3] * segment)) >> 32;
            uint64_t from = model->shard_starts[shard];
            hashes[at] = hash;
            cells[at][0] = from + a;
            cells[at][1] = from + ((a + segment) ^ ((hash >> 18) & low));
            cells[at][2] = from + ((a + 2 * segment) ^ (hash & low));
            cells[at][3] = from + ((a + 3 * segment) ^ (((hash * GOLDEN) >> 30) & low));
            for (int number = 0; number < 4; number++)
                __builtin_prefetch(model->cells + (cells[at][number] * width >> 5));
        }
        for (int64_t at = 0; at < some; at++) {
            uint64_t code = 0;
            if (!empty) {
                uint64_t value = (cell(model, cells[at][0], width) ^ cell(model, cells[at][1], width)
                                  ^ cell(model, cells[at][2], width) ^ cell(model, cells[at][3], width)) & mask;
                uint64_t print = print_bits ? (hashes[at] * GOLDEN) >> (64 - print_bits) : 0;
                code = value >> code_bits == print ? (value & codes) + 1 : 0;
                if (code >= (uint64_t)model->counts[field] + 2) code = 0;
            }
            places[first + at] = (int32_t)(keys[(first + at) * step] ? start + code : (uint64_t)model->codewords);
        }
    }
}

#define GLUED(name, lanes) name##_##lanes
#define NAMED(name, lanes) GLUED(name, lanes)
#define FN(name) NAMED(name, LANES)
#define PADDED(count, to) (((count) + (to) - 1) / (to) * (to))

#define LANES 4
#define ROWS 4
#define TARGET
#include "kernel.c"
#undef LANES
#undef ROWS
#undef TARGET

#if defined(__x86_64__)
#define LANES 8
#define ROWS 6
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel.c"
#undef LANES
#undef ROWS
#undef TARGET

#define LANES 16
#define ROWS 12
#define TARGET __attribute__((target("avx512f,fma")))
#include "kernel.c"
#undef LANES
#undef ROWS
#undef TARGET
#endif

/* How many numbers the longest vectors have that both this processor and this file support: 4, 8 or 16. */
EXPORT int64_t saec_lanes(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
    return 4;
}

/* A stamp of the source and the sizes of its structures; kernel.py refuses a library with others. */
EXPORT const char *saec_stamp(void) { return STAMP; }
EXPORT int64_t saec_sizes(void) {
    return (int64_t)((sizeof(Model) << 32) | (sizeof(Plan) << 16) | (sizeof(Field) << 8) | sizeof(Cross));
}

/* Working memory needed for `rows` rows at a time, in floats. */
EXPORT int64_t saec_scratch(const Model *model, const Plan *plan, int64_t rows) {
    if (rows > BLOCK) rows = BLOCK;
#if defined(__x86_64__)
    if (model->isa == 8) return scratch_8(model, plan, rows);
    if (model->isa == 16) return scratch_16(model, plan, rows);
#endif
    return scratch_4(model, plan, rows);
}

/* Whether so many keys and so much working memory are what a member wants. */
static int sizes_fit(const Model *model, const Plan *plan, int64_t count, const uint8_t *own, int64_t rows,
                     int64_t room) {
    int64_t wanted = 0;
    for (int64_t field = 0; field < model->fields; field++)
        wanted += (own && !own[field] ? 1 : rows) * model->field_slots[field];
    return rows >= 1 && wanted == count && room >= saec_scratch(model, plan, rows);
}

/* Score B rows of keys.
 *
 * models, plans: of each member. keys: `count` keys as saec_keys writes them with own [F], or [B, S] if own is null.
 * Returns 0, or 1 if the sizes do not fit.
 */
EXPORT int saec_score(const Model *models, const Plan *plans, int64_t members, const uint64_t *keys, int64_t count,
                      const uint8_t *own, int64_t rows, float *scratch, int64_t room, double *scores) {
    for (int64_t member = 0; member < members; member++)
        if (!sizes_fit(models + member, plans + member, count, own, rows, room)) return 1;
    for (int64_t row = 0; row < rows; row++) scores[row] = 0;
    for (int64_t member = 0; member < members; member++) {
        const Model *model = models + member;
#if defined(__x86_64__)
        if (model->isa == 8) add_logits_8(model, plans + member, keys, own, rows, scratch, scores);
        if (model->isa == 16) add_logits_16(model, plans + member, keys, own, rows, scratch, scores);
        if (model->isa == 8 || model->isa == 16) continue;
#endif
        if (model->isa != 4) return 1;
        add_logits_4(model, plans + member, keys, own, rows, scratch, scores);
    }
    for (int64_t row = 0; row < rows; row++) {
        const double logit = scores[row], small = exp(-fabs(logit));
        scores[row] = (logit >= 0 ? 1.0 : small) / (1.0 + small);
    }
    return 0;
}

/* The four cells of a key in an index of one shard, by the key's hash. */
ALWAYS void cells_of(uint64_t hash, uint64_t segments, uint64_t length, int64_t cells[4]) {
    const uint64_t low = length - 1, first = ((hash >> 32) * (segments * length)) >> 32;
    cells[0] = (int64_t)first;
    cells[1] = (int64_t)((first + length) ^ ((hash >> 18) & low));
    cells[2] = (int64_t)((first + 2 * length) ^ (hash & low));
    cells[3] = (int64_t)((first + 3 * length) ^ (((hash * GOLDEN) >> 30) & low));
}

/* Peel the keys of an index (saec/compression/peeling.py has the same in numpy, in the same order).
 *
 * states [C]: zeros; claims [N] and alone [max(C, 4N)]: working memory; order [N]: the keys' numbers in the order in
 * which they left; own [N]: the cell in which each was alone. Returns 0, or 1 if some keys can never leave.
 */
EXPORT int saec_peel(const uint64_t *hashes, int64_t keys, int64_t segments, int64_t length, int64_t cells,
                     int64_t *states, int64_t *claims, int64_t *alone, int64_t *order, int64_t *own) {
    const int64_t one = INT64_C(1) << 48;
    int64_t at[4], found = 0, left = 0;
    for (int64_t key = 0; key < keys; key++) {
        cells_of(hashes[key], (uint64_t)segments, (uint64_t)length, at);
        for (int place = 0; place < 4; place++) states[at[place]] += one + key;
    }
    for (int64_t cell = 0; cell < cells; cell++)
        if (states[cell] >> 48 == 1) alone[found++] = cell;
    while (found) {
        for (int64_t number = 0; number < found; number++) claims[states[alone[number]] & (one - 1)] = number;
        const int64_t first = left;  /* of a key that is alone in two cells, or listed twice, the last claim counts */
        for (int64_t number = 0; number < found; number++) {
            const int64_t cell = alone[number], key = states[cell] & (one - 1);
            if (claims[key] == number) order[left] = key, own[left++] = cell;
        }
        const int64_t gone = left - first;
        for (int64_t number = 0; number < gone; number++) {
            const int64_t key = order[first + number];
            cells_of(hashes[key], (uint64_t)segments, (uint64_t)length, at);
            for (int place = 0; place < 4; place++) {
                states[at[place]] -= one + key;
                alone[place * gone + number] = at[place];
            }
        }
        found = 0;
        for (int64_t number = 0; number < 4 * gone; number++)
            if (states[alone[number]] >> 48 == 1) alone[found++] = alone[number];
    }
    return left != keys;
}

/* Set the cells of peeled keys, the last key first, so that each gives its value; cells [C]: zeros before. */
EXPORT int saec_fill(const uint64_t *hashes, const uint32_t *values, int64_t keys, int64_t segments, int64_t length,
                     const int64_t *order, const int64_t *own, uint32_t *cells) {
    int64_t at[4];
    for (int64_t number = keys - 1; number >= 0; number--) {
        const int64_t key = order[number];
        cells_of(hashes[key], (uint64_t)segments, (uint64_t)length, at);
        cells[own[number]] = values[key] ^ cells[at[0]] ^ cells[at[1]] ^ cells[at[2]] ^ cells[at[3]];
    }
    return 0;
}

#else /* LANES: the network's products, for vectors of so many numbers */

#define PANEL (2 * LANES)
typedef float FN(vector) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t FN(bits) __attribute__((vector_size(4 * LANES)));

/* Multiply a few rows by one panel of weights: PANEL columns, laid out [K][PANEL]. */
ALWAYS TARGET void FN(tile)(const int rows, int64_t depth, const float *left, int64_t left_step, const float *panel,
                            const float *start, int64_t start_step, float *out, int64_t out_step, int rectified) {
    FN(vector) sums[ROWS][2];
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
        sums[row][0] = *(const FN(vector) *)(start + row * start_step);
        sums[row][1] = *(const FN(vector) *)(start + row * start_step + LANES);
    }
    for (int64_t at = 0; at < depth; at++) {
        FN(vector) one = *(const FN(vector) *)(panel + at * PANEL);
        FN(vector) two = *(const FN(vector) *)(panel + at * PANEL + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            float number = left[row * left_step + at];
            sums[row][0] += one * number;
            sums[row][1] += two * number;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
        if (rectified) {
            const FN(vector) zero = {0};
            sums[row][0] = (FN(vector))((FN(bits))sums[row][0] & ~(sums[row][0] < zero));  /* NaN stays NaN */
            sums[row][1] = (FN(vector))((FN(bits))sums[row][1] & ~(sums[row][1] < zero));
        }
        *(FN(vector) *)(out + row * out_step) = sums[row][0];
        *(FN(vector) *)(out + row * out_step + LANES) = sums[row][1];
    }
}

/* out = start + left @ weights, for weights packed in panels; columns beyond the last are padding.
 *
 * start_step: 0 for one start for all rows. out_panel: distance from the columns of a panel to those of the next.
 */
static TARGET void FN(product)(int64_t rows, int64_t depth, int64_t columns, const float *left, int64_t left_step,
                               const float *weights, const float *start, int64_t start_step, float *out,
                               int64_t out_step, int64_t out_panel, int rectified) {
    for (int64_t column = 0, number = 0; column < columns; column += PANEL, number++) {
        const float *panel = weights + number * depth * PANEL;
        int64_t row = 0;
        for (; row + ROWS <= rows; row += ROWS)
            FN(tile)(ROWS, depth, left + row * left_step, left_step, panel, start + row * start_step + column,
                     start_step, out + row * out_step + number * out_panel, out_step, rectified);
        for (; row + 2 <= rows; row += 2)
            FN(tile)(2, depth, left + row * left_step, left_step, panel, start + row * start_step + column,
                     start_step, out + row * out_step + number * out_panel, out_step, rectified);
        if (row < rows)
            FN(tile)(1, depth, left + row * left_step, left_step, panel, start + row * start_step + column,
                     start_step, out + row * out_step + number * out_panel, out_step, rectified);
    }
}

ALWAYS TARGET float FN(dot)(const float *left, const float *right, int64_t count) {
    FN(vector) sums = {0};
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES)
        sums += *(const FN(vector) *)(left + at) * *(const FN(vector) *)(right + at);
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    for (; at < count; at++) sum += left[at] * right[at];
    return sum;
}

/* out = first + the sum of the rows that are pointed at; `count` is a multiple of LANES. */
ALWAYS TARGET void FN(summed)(float *out, const float *first, const float *const *rows, int64_t number, int64_t count) {
    int64_t at = 0;
    for (; at + 4 * LANES <= count; at += 4 * LANES) {
        FN(vector) sums[4];
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) sums[part] = *(const FN(vector) *)(first + at + part * LANES);
        for (int64_t row = 0; row < number; row++)
#pragma GCC unroll 4
            for (int part = 0; part < 4; part++) sums[part] += *(const FN(vector) *)(rows[row] + at + part * LANES);
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) *(FN(vector) *)(out + at + part * LANES) = sums[part];
    }
    for (; at < count; at += LANES) {
        FN(vector) sum = *(const FN(vector) *)(first + at);
        for (int64_t row = 0; row < number; row++) sum += *(const FN(vector) *)(rows[row] + at);
        *(FN(vector) *)(out + at) = sum;
    }
}

/* Where the parts of working memory begin, in floats. */
typedef struct {
    int64_t deep, rank, linear, vectors, own;               /* padded sizes and places in a row of the table */
    int64_t shared, sums, means, numbers, factors, crossed, inner, units, wide, mixes, scaled, places, zeros, pointers, size;
} FN(Room);

static FN(Room) FN(room)(const Model *model, const Plan *plan, int64_t rows) {
    FN(Room) room;
    int64_t layers = model->layers, wide = PANEL;
    room.deep = model->hidden ? PADDED(model->deep, PANEL) : 0;
    room.rank = PADDED(model->rank, PANEL);
    room.linear = room.deep + 2 * layers * room.rank;
    room.vectors = room.linear + 1;
    room.own = layers ? PADDED(plan->own_numbers, PANEL) : 0;
    for (int64_t layer = 1; layer < model->hidden; layer++)
        if (PADDED(model->units[layer], PANEL) > wide) wide = PADDED(model->units[layer], PANEL);
    room.wide = wide;
    int64_t most = room.rank > wide ? room.rank : wide;
    int64_t mixed = layers && plan->shared_numbers ? layers * (layers - 1) / 2 : 0, at = 0;
    room.pointers = at, at += 4 * model->fields;            /* two tables of pointers */
    room.shared = at, at += model->row;
    room.means = at, at += 2 * model->fields * model->row;  /* a shared and a row's own one for each list */
    room.zeros = at, at += most > room.own ? most : room.own;
    room.mixes = at, at += mixed * model->rank * room.rank;
    room.scaled = at, at += mixed ? model->rank * plan->shared_numbers : 0;
    room.sums = at, at += rows * model->row;
    room.numbers = at, at += rows * room.own;
    room.factors = at, at += rows * room.own;
    room.crossed = at, at += rows * room.own;
    room.inner = at, at += layers * rows * room.rank;
    room.units = at, at += 2 * rows * wide;
    room.places = at, at += rows * model->slots + model->slots;
    room.size = at;
    return room;
}

static int64_t FN(scratch)(const Model *model, const Plan *plan, int64_t rows) {
    return FN(room)(model, plan, rows).size;
}

/* The row of a field: that of its codeword in the table; for a list, the mean of its values' rows. */
ALWAYS TARGET const float *FN(field_row)(const Model *model, int64_t field, const int32_t *places, int64_t step,
                                         float *mean, int64_t linear) {
    int64_t slots = model->field_slots[field], size = model->row, used = 0;
    if (slots == 1) return model->table + (int64_t)places[0] * size;
    memset(mean, 0, sizeof(float) * (size_t)size);
    for (int64_t slot = 0; slot < slots; slot++) {
        if (places[slot * step] == model->codewords) continue;
        const float *row = model->table + (int64_t)places[slot * step] * size;
        for (int64_t at = 0; at < size; at++) mean[at] += row[at];
        used++;
    }
    float share = 1.0f / (float)(used ? used : 1);
    for (int64_t at = 0; at < size; at++) mean[at] *= share;
    if (model->pairs) mean[linear] -= 0.5f * FN(dot)(mean + linear + 1, mean + linear + 1, model->width);
    return mean;
}

/* Add a member's share of the logits of B rows. */
static TARGET void FN(add_logits)(const Model *model, const Plan *plan, const uint64_t *keys, const uint8_t *own,
                                  int64_t rows, float *scratch, double *logits) {
    const int64_t most = rows < BLOCK ? rows : BLOCK, fields = model->fields, size = model->row;
    const int64_t layers = model->layers, rank = model->rank, width = model->width;
    const FN(Room) room = FN(room)(model, plan, most);
    const float **own_rows = (const float **)(void *)(scratch + room.pointers), **all_rows = own_rows + fields;
    float *shared = scratch + room.shared, *sums = scratch + room.sums, *zeros = scratch + room.zeros;
    float *numbers = scratch + room.numbers, *factors = scratch + room.factors, *crossed = scratch + room.crossed;
    int32_t *places = (int32_t *)(void *)(scratch + room.places);
    memset(zeros, 0, sizeof(float) * (size_t)(room.mixes - room.zeros));

    /* What all rows share: the sum of the table's rows, and the factors that mix the cross layers' inner parts. */
    int64_t offset = 0, sharing = 0;
    for (int64_t field = 0; field < fields; field++) {
        int64_t slots = model->field_slots[field];
        if (own && !own[field]) {
            look_up(model, field, keys + offset, 1, slots, places);
            all_rows[field] = FN(field_row)(model, field, places, 1, scratch + room.means + field * size, room.linear);
            own_rows[sharing++] = all_rows[field];
        }
        offset += (own && !own[field] ? 1 : rows) * slots;
    }
    FN(summed)(shared, model->start, own_rows, sharing, size);
    if (layers && plan->shared_numbers) {
        float *mix = scratch + room.mixes, *scaled = scratch + room.scaled;
        const int64_t count = plan->shared_numbers;
        for (int64_t earlier = 0; earlier < layers - 1; earlier++) {
            for (int64_t at = 0; at < rank; at++) {
                float *to = scaled + at * count;
                const float *up = plan->shared_ups[earlier] + at * count;
                for (int64_t field = 0; field < fields; field++)
                    if (!plan->own[field])
                        for (int64_t number = 0; number < width; number++)
                            *to++ = *up++ * all_rows[field][room.vectors + number];
            }
            for (int64_t layer = earlier + 1; layer < layers; layer++, mix += rank * room.rank)
                FN(product)(rank, count, rank, scaled, count, plan->shared_downs[layer - 1], zeros, 0, mix, PANEL,
                            rank * PANEL, 0);
        }
    }

    for (int64_t first = 0; first < rows; first += most) {
        const int64_t some = rows - first < most ? rows - first : most;
        int64_t slot = 0;
        offset = 0;
        for (int64_t field = 0; field < fields; field++) {
            int64_t slots = model->field_slots[field];
            for (int64_t at = 0; at < slots && !(own && !own[field]); at++, slot++)
                look_up(model, field, own ? keys + offset + first * slots + at : keys + first * model->slots + slot,
                        own ? slots : model->slots, some, places + slot * most);
            offset += (own && !own[field] ? 1 : rows) * slots;
        }
        for (int64_t row = 0; row < some; row++) {
            int64_t count = 0;
            slot = 0;
            for (int64_t field = 0; field < fields; field++) {
                if (own && !own[field]) continue;
                all_rows[field] = FN(field_row)(model, field, places + slot * most + row, most,
                                                scratch + room.means + (fields + field) * size, room.linear);
                own_rows[count++] = all_rows[field];
                slot += model->field_slots[field];
            }
            FN(summed)(sums + row * size, shared, own_rows, count, size);
            float *to = numbers + row * room.own;
            for (int64_t field = 0; field < fields && layers; field++)
                if (plan->own[field]) {
                    memcpy(to, all_rows[field] + room.vectors, sizeof(float) * (size_t)width);
                    to += width;
                }
        }

        /* The cross layers: their inner parts, [some, R] each. */
        const float *inners[MOST_LAYERS] = {sums + room.deep};
        int64_t steps[MOST_LAYERS] = {size};
        for (int64_t layer = 1; layer < layers; layer++) {
            const int64_t count = plan->own_numbers;
            float *found = scratch + room.inner + layer * most * room.rank;
            FN(product)(some, rank, count, inners[layer - 1], steps[layer - 1], plan->ups[layer - 1],
                        layer > 1 ? factors : zeros, layer > 1 ? room.own : 0, factors, room.own, PANEL, 0);
            for (int64_t at = 0; at < some * room.own; at++) crossed[at] = numbers[at] * factors[at];
            FN(product)(some, count, rank, crossed, room.own, plan->downs[layer - 1],
                        sums + room.deep + layer * room.rank, size, found, room.rank, PANEL, 0);
            const float *mix = scratch + room.mixes + (layer - 1) * rank * room.rank;
            for (int64_t earlier = 0; earlier < layer && plan->shared_numbers; earlier++) {
                FN(product)(some, rank, rank, inners[earlier], steps[earlier], mix, found, room.rank, found, room.rank,
                            PANEL, 0);
                mix += (layers - 2 - earlier) * rank * room.rank;
            }
            inners[layer] = found, steps[layer] = room.rank;
        }

        /* The deep part. */
        const float *units = sums;
        int64_t step = size, depth = model->deep;
        for (int64_t row = 0; row < some; row++)
            for (int64_t at = 0; at < room.deep; at++) {
                float *unit = sums + row * size + at;
                *unit = *unit < 0 ? 0 : *unit;
            }
        for (int64_t layer = 1; layer < model->hidden; layer++) {
            float *out = scratch + room.units + (layer % 2) * most * room.wide;
            FN(product)(some, depth, model->units[layer], units, step, model->weights[layer - 1],
                        model->biases[layer - 1], 0, out, room.wide, PANEL, 1);
            units = out, step = room.wide, depth = model->units[layer];
        }

        for (int64_t row = 0; row < some; row++) {
            const float *sum = sums + row * size;
            float logit = sum[room.linear];
            if (model->hidden) logit += FN(dot)(units + row * step, model->last, depth);
            for (int64_t layer = 0; layer < layers; layer++)
                logit += FN(dot)(inners[layer] + row * steps[layer],
                                 sum + room.deep + (layers + layer) * room.rank, rank);
            if (model->pairs) logit += 0.5f * FN(dot)(sum + room.vectors, sum + room.vectors, width);
            if (model->cap > 0) logit = (float)model->cap * tanhf(logit / (float)model->cap);
            logits[first + row] += model->share * (double)(logit + (float)model->bias);
        }
    }
}
#undef PANEL

#endif
