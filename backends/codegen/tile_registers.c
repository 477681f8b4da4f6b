/* The tile instructions of AMX on a cpu that has none of them.

   There each of them is an illegal instruction.  The handler of its signal does what Intel's manual
   says (SDM volume 2: LDTILECFG to TILEZERO, palette 1, exception classes AMX-E1 to AMX-E6) on
   tiles that every thread has of its own, and goes on behind it; whatever else is illegal goes to
   the handler that was there before.  Signals come from instructions of kernels, never from within
   malloc, so that a thread's tiles may be allocated when they are touched.  Not emulated, since no
   kernel has them: tdpbf16ps, prefixes before VEX, and loads that are resumed in the middle. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };
enum { NONE, P66, PF3, PF2 }; /* the prefixes that VEX has room for */
enum { CONFIGURE, ZERO, LOAD, STORE, MULTIPLY, KINDS };
typedef enum { DONE, UNDEFINED, PROTECTED } outcome;

/* Bytes beyond `bytes` and rows beyond `rows` are zero since the tile was configured. */
typedef struct {
  int rows, bytes;
  uint8_t data[ROWS][BYTES];
} tile;

typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[TILES], more_bytes[8];
  uint8_t rows[TILES], more_rows[8];
} configuration;

static __thread struct {
  int configured;
  tile tiles[TILES];
} mine;

typedef struct {
  int opcode, prefix, reg, rm, third, memory, indexed;
  uint8_t *base;   /* of the operand in memory, with its displacement */
  int64_t stride;  /* what the index register holds, scaled */
  const uint8_t *next;
} instruction;

static int64_t counts[KINDS][2];

/* Instructions that were emulated and the rows they had, by kind, in the order above. */
const int64_t *qc_tile_counts(void) { return counts[0]; }

static void count(int kind, int rows) {
  __atomic_fetch_add(&counts[kind][0], 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&counts[kind][1], rows, __ATOMIC_RELAXED);
}

static int64_t reg_of(const ucontext_t *context, int number) {
  static const int order[16] = {
      REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
  };
  return context->uc_mcontext.gregs[order[number]];
}

/* The operand in memory behind the ModRM byte; `next` points behind that byte and is moved on. */
static void decode_memory(instruction *i, int modrm, int x, int b, const ucontext_t *context) {
  int mod = modrm >> 6, low = modrm & 7, relative = 0;
  int64_t base = 0;
  if (low == 4) {
    int sib = *i->next++, index = (sib >> 3 & 7) | x;
    i->indexed = 1;
    if (index != 4) i->stride = (int64_t)((uint64_t)reg_of(context, index) << (sib >> 6));
    low = sib & 7;
    if (low == 5 && mod == 0) mod = 2;
    else base = reg_of(context, low | b);
  } else if (low == 5 && mod == 0) {
    relative = 1, mod = 2;
  } else {
    base = reg_of(context, low | b);
  }
  int32_t displacement = 0;
  if (mod == 1) displacement = (int8_t)*i->next++;
  if (mod == 2) memcpy(&displacement, i->next, 4), i->next += 4;
  if (relative) base = (int64_t)(uintptr_t)i->next;
  i->base = (uint8_t *)(uintptr_t)(base + displacement);
}

/* Whether there is an instruction of the opcodes that AMX has: VEX.128.0F38.W0. */
static int decode(instruction *i, const ucontext_t *context) {
  const uint8_t *p = (const uint8_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
  if (p[0] != 0xc4 || (p[1] & 31) != 2 || p[2] & 0x84) return 0;
  if (p[3] != 0x49 && p[3] != 0x4b && p[3] != 0x5e) return 0;
  int r = ~p[1] >> 4 & 8, x = ~p[1] >> 3 & 8, b = ~p[1] >> 2 & 8, modrm = p[4];
  *i = (instruction){.opcode = p[3], .prefix = p[2] & 3, .third = ~p[2] >> 3 & 15, .next = p + 5};
  i->reg = (modrm >> 3 & 7) | r;
  i->rm = (modrm & 7) | b;
  i->memory = modrm < 0xc0;
  if (i->memory) decode_memory(i, modrm, x, b, context);
  return 1;
}

static tile *tile_of(int number) {
  return number < TILES && mine.tiles[number].rows ? &mine.tiles[number] : NULL;
}

static outcome release(void) {
  memset(&mine, 0, sizeof mine);
  return DONE;
}

static int wrong(const configuration *c) {
  static const configuration none;
  if (c->palette > 1) return 1;
  for (int i = 0; i < TILES; i++)
    if (c->bytes[i] > BYTES || c->rows[i] > ROWS || !c->bytes[i] != !c->rows[i]) return 1;
  return memcmp(c->reserved, none.reserved, sizeof none.reserved) ||
         memcmp(c->more_bytes, none.more_bytes, sizeof none.more_bytes) ||
         memcmp(c->more_rows, none.more_rows, sizeof none.more_rows);
}

static outcome configure(const uint8_t *from) {
  configuration c;
  memcpy(&c, from, sizeof c);
  if (c.palette == 0) return release();
  if (wrong(&c)) return PROTECTED;
  if (c.start) return UNDEFINED;
  release();
  mine.configured = 1;
  for (int i = 0; i < TILES; i++) mine.tiles[i].rows = c.rows[i], mine.tiles[i].bytes = c.bytes[i];
  count(CONFIGURE, 0);
  return DONE;
}

static outcome store_configuration(uint8_t *to) {
  configuration c = {.palette = mine.configured};
  for (int i = 0; i < TILES; i++) c.rows[i] = mine.tiles[i].rows, c.bytes[i] = mine.tiles[i].bytes;
  memcpy(to, &c, sizeof c);
  return DONE;
}

static outcome zero(tile *t) {
  if (!t) return UNDEFINED;
  memset(t->data, 0, sizeof t->data);
  count(ZERO, t->rows);
  return DONE;
}

static outcome load(tile *t, const uint8_t *base, int64_t stride) {
  if (!t) return UNDEFINED;
  for (int row = 0; row < t->rows; row++) memcpy(t->data[row], base + row * stride, t->bytes);
  count(LOAD, t->rows);
  return DONE;
}

static outcome store(const tile *t, uint8_t *base, int64_t stride) {
  if (!t) return UNDEFINED;
  for (int row = 0; row < t->rows; row++) memcpy(base + row * stride, t->data[row], t->bytes);
  count(STORE, t->rows);
  return DONE;
}

static int widened(uint8_t code, int is_signed) { return is_signed ? (int8_t)code : code; }

/* c += a b, where every 32 bits of a and b are four codes; sums wrap around. */
static outcome multiply(tile *c, const tile *a, const tile *b, int signed_a, int signed_b) {
  enum { LANES = BYTES / 4 };
  int32_t columns[BYTES][LANES];
  if (!a || !b || !c || a == b || a == c || b == c) return UNDEFINED;
  if ((a->bytes | b->bytes | c->bytes) & 3) return UNDEFINED;
  if (c->rows != a->rows || c->bytes != b->bytes || a->bytes / 4 != b->rows) return UNDEFINED;
  for (int k = 0; k < a->bytes; k++)
    for (int n = 0; n < LANES; n++)
      columns[k][n] = widened(b->data[k / 4][4 * n + k % 4], signed_b);
  for (int m = 0; m < c->rows; m++) {
    int32_t sums[LANES];
    memcpy(sums, c->data[m], BYTES);
    for (int k = 0; k < a->bytes; k++) {
      int code = widened(a->data[m][k], signed_a);
      for (int n = 0; n < LANES; n++) sums[n] += code * columns[k][n];
    }
    memcpy(c->data[m], sums, BYTES);
  }
  count(MULTIPLY, c->rows);
  return DONE;
}

static outcome execute_configuration(const instruction *i) {
  if (i->third) return UNDEFINED;
  if (i->memory) {
    if (i->reg || (i->prefix != NONE && i->prefix != P66)) return UNDEFINED;
    uint8_t *at = i->base + i->stride;
    return i->prefix == NONE ? configure(at) : store_configuration(at);
  }
  if (i->prefix == NONE && !i->reg && !i->rm) return release();
  return i->prefix == PF2 && !i->rm ? zero(tile_of(i->reg)) : UNDEFINED;
}

static outcome execute_move(const instruction *i) {
  if (i->third || !i->memory || !i->indexed) return UNDEFINED;
  switch (i->prefix) {
  case PF2:
  case P66: return load(tile_of(i->reg), i->base, i->stride);
  case PF3: return store(tile_of(i->reg), i->base, i->stride);
  default: return UNDEFINED;
  }
}

static outcome execute_product(const instruction *i) {
  if (i->memory) return UNDEFINED;
  int signed_a = i->prefix == PF3 || i->prefix == PF2;
  int signed_b = i->prefix == P66 || i->prefix == PF2;
  return multiply(tile_of(i->reg), tile_of(i->rm), tile_of(i->third), signed_a, signed_b);
}

static struct sigaction before;

static void pass_on(int number, siginfo_t *info, void *context) {
  if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(number);
  else if (info->si_code > 0) signal(number, SIG_DFL); /* it runs once more, and ends the process */
  else if (before.sa_handler == SIG_DFL) signal(number, SIG_DFL), raise(number);
}

/* Goes on with the tile instructions that follow at once: a trap costs far more than they do. */
static void trapped(int number, siginfo_t *info, void *place) {
  ucontext_t *context = place;
  instruction i;
  outcome result = UNDEFINED;
  if (info->si_code > 0) /* not sent by a process */
    while (decode(&i, context)) {
      result = i.opcode == 0x49   ? execute_configuration(&i)
               : i.opcode == 0x4b ? execute_move(&i)
                                  : execute_product(&i);
      if (result != DONE) break;
      context->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)i.next;
    }
  if (result == PROTECTED) raise(SIGSEGV); /* as Linux says #GP */
  else if (result == UNDEFINED) pass_on(number, info, place);
}

/* To be called once; 0, or -1 with errno set. */
int qc_emulate_tiles(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO | SA_NODEFER; /* an alternate stack may be too small */
  return sigaction(SIGILL, &action, &before);
}
