#include "textflag.h"

// SHA-256 of two streams at once, with the SHA extensions (Intel SDM volume 2, SHA256RNDS2 and its like). One stream waits four
// cycles for each step; the steps of the other fit in between.
//
// Registers: first stream X1 (ABEF), X2 (CDGH), message X3 to X6; second stream X7, X8, message X9 to X12. X0 is the words of
// four rounds plus their constants, X13 a spare. DI, SI: states; R8, R9: blocks; CX: blocks left; AX: the constants.

DATA flip<>+0x00(SB)/8, $0x0405060700010203
DATA flip<>+0x08(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// LOAD turns a state (DCBA, HGFE in memory) into the order of the instructions.
#define LOAD(at, abef, cdgh) \
	MOVOU   (at), abef;         \
	MOVOU   16(at), cdgh;       \
	PSHUFD  $0xB1, abef, abef;  \
	PSHUFD  $0x1B, cdgh, cdgh;  \
	MOVO    abef, X13;          \
	PALIGNR $8, cdgh, abef;     \
	PBLENDW $0xF0, X13, cdgh

#define STORE(at, abef, cdgh) \
	PSHUFD  $0x1B, abef, abef;  \
	PSHUFD  $0xB1, cdgh, cdgh;  \
	MOVO    abef, X13;          \
	PBLENDW $0xF0, cdgh, abef;  \
	PALIGNR $8, X13, cdgh;      \
	MOVOU   abef, (at);         \
	MOVOU   cdgh, 16(at)

// READ takes 16 bytes of a block as four words.
#define READ(n, block, m) \
	MOVOU  (n*16)(block), m; \
	PSHUFB X14, m

// ROUNDS does the rounds 4n to 4n+3 of one stream with the words m.
#define ROUNDS(n, m, abef, cdgh) \
	MOVOU       (n*16)(AX), X0; \
	PADDD       m, X0;          \
	SHA256RNDS2 X0, abef, cdgh; \
	PSHUFD      $0x0E, X0, X0;  \
	SHA256RNDS2 X0, cdgh, abef

// NEXT makes the words m0 of four rounds later of the last sixteen, m0 to m3, m0 having gone through SHA256MSG1.
#define NEXT(m0, m2, m3) \
	MOVO       m3, X13;     \
	PALIGNR    $4, m2, X13; \
	PADDD      X13, m0;     \
	SHA256MSG2 m3, m0

// BOTH does four rounds of both streams and prepares the words of later ones.
#define BOTH(n, a0, a1, a2, a3, b0, b1, b2, b3) \
	ROUNDS(n, a0, X1, X2); \
	NEXT(a1, a3, a0);      \
	SHA256MSG1 a0, a3;     \
	ROUNDS(n, b0, X7, X8); \
	NEXT(b1, b3, b0);      \
	SHA256MSG1 b0, b3

// func blocks2(a *[8]uint32, from *byte, b *[8]uint32, and *byte, n int, k *[64]uint32)
TEXT ·blocks2(SB), NOSPLIT, $64-48
	MOVQ  a+0(FP), DI
	MOVQ  from+8(FP), R8
	MOVQ  b+16(FP), SI
	MOVQ  and+24(FP), R9
	MOVQ  n+32(FP), CX
	MOVQ  k+40(FP), AX
	MOVOU flip<>(SB), X14
	LOAD(DI, X1, X2)
	LOAD(SI, X7, X8)
	TESTQ CX, CX
	JZ    done

block:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X7, 32(SP)
	MOVOU X8, 48(SP)
	READ(0, R8, X3)
	READ(0, R9, X9)
	ROUNDS(0, X3, X1, X2)
	ROUNDS(0, X9, X7, X8)
	READ(1, R8, X4)
	READ(1, R9, X10)
	ROUNDS(1, X4, X1, X2)
	SHA256MSG1 X4, X3
	ROUNDS(1, X10, X7, X8)
	SHA256MSG1 X10, X9
	READ(2, R8, X5)
	READ(2, R9, X11)
	ROUNDS(2, X5, X1, X2)
	SHA256MSG1 X5, X4
	ROUNDS(2, X11, X7, X8)
	SHA256MSG1 X11, X10
	READ(3, R8, X6)
	READ(3, R9, X12)
	BOTH(3, X6, X3, X4, X5, X12, X9, X10, X11)
	BOTH(4, X3, X4, X5, X6, X9, X10, X11, X12)
	BOTH(5, X4, X5, X6, X3, X10, X11, X12, X9)
	BOTH(6, X5, X6, X3, X4, X11, X12, X9, X10)
	BOTH(7, X6, X3, X4, X5, X12, X9, X10, X11)
	BOTH(8, X3, X4, X5, X6, X9, X10, X11, X12)
	BOTH(9, X4, X5, X6, X3, X10, X11, X12, X9)
	BOTH(10, X5, X6, X3, X4, X11, X12, X9, X10)
	BOTH(11, X6, X3, X4, X5, X12, X9, X10, X11)
	BOTH(12, X3, X4, X5, X6, X9, X10, X11, X12)
	ROUNDS(13, X4, X1, X2)
	NEXT(X5, X3, X4)
	ROUNDS(13, X10, X7, X8)
	NEXT(X11, X9, X10)
	ROUNDS(14, X5, X1, X2)
	NEXT(X6, X4, X5)
	ROUNDS(14, X11, X7, X8)
	NEXT(X12, X10, X11)
	ROUNDS(15, X6, X1, X2)
	ROUNDS(15, X12, X7, X8)
	MOVOU 0(SP), X13
	PADDD X13, X1
	MOVOU 16(SP), X13
	PADDD X13, X2
	MOVOU 32(SP), X13
	PADDD X13, X7
	MOVOU 48(SP), X13
	PADDD X13, X8
	ADDQ  $64, R8
	ADDQ  $64, R9
	DECQ  CX
	JNZ   block

done:
	STORE(DI, X1, X2)
	STORE(SI, X7, X8)
	RET

// func extensions() bool
TEXT ·extensions(SB), NOSPLIT, $0-1
	MOVB  $0, ret+0(FP)
	MOVL  $0, AX
	CPUID
	CMPL  AX, $7
	JLT   none
	MOVL  $1, AX
	CPUID
	ANDL  $0x80200, CX // SSE4.1, SSSE3
	CMPL  CX, $0x80200
	JNE   none
	MOVL  $7, AX
	MOVL  $0, CX
	CPUID
	BTL   $29, BX // SHA
	SETCS ret+0(FP)

none:
	RET
