//! Floating-point and vector registers are the process's own: several processes fill theirs with different
//! values, hand the processor to each other many times, and look whether they still have them.

use std::arch::asm;

use programs::{Random, spawn, wait};

/// What one process keeps in its registers.
#[repr(C, align(64))]
struct Registers {
    /// `xmm0` to `xmm15`.
    vectors: [[u64; 2]; 16],
    /// Upper halves of `ymm0` to `ymm15`, where the processor has them.
    uppers: [[u64; 2]; 16],
}

fn main() {
    // Rounding mode and precision differ between the processes too.
    let children: Vec<_> = (0..6).map(|n| spawn(move || keep(n))).collect();
    for (n, child) in children.into_iter().enumerate() {
        println!("process {n}: {}", wait(child));
    }
    println!("fresh state: {}", fresh());
    println!("inherited: {}", inherited());
}

/// Keeps its registers over switches and page faults; answers the number of losses.
fn keep(process: u64) -> i32 {
    let mut random = Random::new(process);
    let mut losses = 0;
    let mxcsr = 0x1f80 | ((process as u32 % 4) << 13);
    let control = 0x037f & !0xc00 | ((process as u16 % 4) << 10);
    for _ in 0..300 {
        let mut number = || [random.below(u64::MAX), random.below(u64::MAX)];
        let mut registers = Registers {
            vectors: [[0; 2]; 16],
            uppers: [[0; 2]; 16],
        };
        registers
            .vectors
            .iter_mut()
            .for_each(|vector| *vector = number());
        registers
            .uppers
            .iter_mut()
            .for_each(|upper| *upper = number());
        let mut after = Registers {
            vectors: [[0; 2]; 16],
            uppers: [[0; 2]; 16],
        };
        let kept = switch(&registers, &mut after, mxcsr, control);
        let vectors = registers.vectors == after.vectors;
        let uppers = !has_avx() || registers.uppers == after.uppers;
        losses += i32::from(!(kept && vectors && uppers));
    }
    losses
}

/// Loads the registers, lets others run a few times, stores what is there. The answer is whether the control
/// words and an x87 register are as they were.
fn switch(before: &Registers, after: &mut Registers, mxcsr: u32, control: u16) -> bool {
    let (mut mxcsr_after, mut control_after, mut ten) = (0_u32, 0_u16, 0_f64);
    let old = 0x1f80_u32;
    let avx = u64::from(has_avx());
    // SAFETY: all vector registers and the x87 stack are declared as changed, control words are put back,
    // memory is reached through the given pointers only, and sched_yield has no arguments.
    unsafe {
        asm!(
            "ldmxcsr [{mxcsr}]",
            "fninit",
            "fldcw [{control}]",
            "fldl2t",
            "test {avx}, {avx}",
            "jz 2f",
            // Uppers first: vinsertf128 leaves the lower half alone when both sources are the register itself.
            "vinsertf128 ymm0, ymm0, [{before} + 256], 1",  "vinsertf128 ymm1, ymm1, [{before} + 272], 1",
            "vinsertf128 ymm2, ymm2, [{before} + 288], 1",  "vinsertf128 ymm3, ymm3, [{before} + 304], 1",
            "vinsertf128 ymm4, ymm4, [{before} + 320], 1",  "vinsertf128 ymm5, ymm5, [{before} + 336], 1",
            "vinsertf128 ymm6, ymm6, [{before} + 352], 1",  "vinsertf128 ymm7, ymm7, [{before} + 368], 1",
            "vinsertf128 ymm8, ymm8, [{before} + 384], 1",  "vinsertf128 ymm9, ymm9, [{before} + 400], 1",
            "vinsertf128 ymm10, ymm10, [{before} + 416], 1", "vinsertf128 ymm11, ymm11, [{before} + 432], 1",
            "vinsertf128 ymm12, ymm12, [{before} + 448], 1", "vinsertf128 ymm13, ymm13, [{before} + 464], 1",
            "vinsertf128 ymm14, ymm14, [{before} + 480], 1", "vinsertf128 ymm15, ymm15, [{before} + 496], 1",
            "2:",
            // Legacy moves leave the upper halves alone.
            "movaps xmm0, [{before}]",        "movaps xmm1, [{before} + 16]",
            "movaps xmm2, [{before} + 32]",   "movaps xmm3, [{before} + 48]",
            "movaps xmm4, [{before} + 64]",   "movaps xmm5, [{before} + 80]",
            "movaps xmm6, [{before} + 96]",   "movaps xmm7, [{before} + 112]",
            "movaps xmm8, [{before} + 128]",  "movaps xmm9, [{before} + 144]",
            "movaps xmm10, [{before} + 160]", "movaps xmm11, [{before} + 176]",
            "movaps xmm12, [{before} + 192]", "movaps xmm13, [{before} + 208]",
            "movaps xmm14, [{before} + 224]", "movaps xmm15, [{before} + 240]",
            "mov {rounds:e}, 4",
            "3:",
            "mov eax, 24", // sched_yield
            "syscall",
            "dec {rounds:e}",
            "jnz 3b",
            "movaps [{after}], xmm0",        "movaps [{after} + 16], xmm1",
            "movaps [{after} + 32], xmm2",   "movaps [{after} + 48], xmm3",
            "movaps [{after} + 64], xmm4",   "movaps [{after} + 80], xmm5",
            "movaps [{after} + 96], xmm6",   "movaps [{after} + 112], xmm7",
            "movaps [{after} + 128], xmm8",  "movaps [{after} + 144], xmm9",
            "movaps [{after} + 160], xmm10", "movaps [{after} + 176], xmm11",
            "movaps [{after} + 192], xmm12", "movaps [{after} + 208], xmm13",
            "movaps [{after} + 224], xmm14", "movaps [{after} + 240], xmm15",
            "test {avx}, {avx}",
            "jz 4f",
            "vextractf128 [{after} + 256], ymm0, 1",  "vextractf128 [{after} + 272], ymm1, 1",
            "vextractf128 [{after} + 288], ymm2, 1",  "vextractf128 [{after} + 304], ymm3, 1",
            "vextractf128 [{after} + 320], ymm4, 1",  "vextractf128 [{after} + 336], ymm5, 1",
            "vextractf128 [{after} + 352], ymm6, 1",  "vextractf128 [{after} + 368], ymm7, 1",
            "vextractf128 [{after} + 384], ymm8, 1",  "vextractf128 [{after} + 400], ymm9, 1",
            "vextractf128 [{after} + 416], ymm10, 1", "vextractf128 [{after} + 432], ymm11, 1",
            "vextractf128 [{after} + 448], ymm12, 1", "vextractf128 [{after} + 464], ymm13, 1",
            "vextractf128 [{after} + 480], ymm14, 1", "vextractf128 [{after} + 496], ymm15, 1",
            "vzeroupper",
            "4:",
            "stmxcsr [{mxcsr_after}]",
            "fnstcw [{control_after}]",
            "fstp qword ptr [{ten}]",
            "fninit",
            "ldmxcsr [{old}]",
            before = in(reg) before,
            after = in(reg) after,
            mxcsr = in(reg) &mxcsr,
            control = in(reg) &control,
            mxcsr_after = in(reg) &mut mxcsr_after,
            control_after = in(reg) &mut control_after,
            ten = in(reg) &mut ten,
            old = in(reg) &old,
            avx = in(reg) avx,
            rounds = out(reg) _,
            out("rax") _, out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    // log2(10), whichever way it was rounded.
    mxcsr_after & 0xffc0 == mxcsr && control_after == control && (ten - 10_f64.log2()).abs() < 1e-12
}

fn has_avx() -> bool {
    std::arch::is_x86_feature_detected!("avx")
}

/// A new process starts with the usual control words.
fn fresh() -> bool {
    let (mut mxcsr, mut control) = (0_u32, 0_u16);
    // SAFETY: stores the control words and nothing else.
    unsafe { asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &mut mxcsr, in(reg) &mut control) };
    // Status flags may have been raised since.
    mxcsr & 0xffc0 == 0x1f80 && control == 0x037f
}

/// A child starts with its parent's registers.
fn inherited() -> i32 {
    let (child, kept): (i64, u64);
    let pattern = 0x0123_4567_89ab_cdef_u64;
    // SAFETY: fork has no arguments; both sides go on here with all registers as they were.
    unsafe {
        asm!(
            "movq xmm7, {pattern}",
            "mov eax, 57", // fork
            "syscall",
            "movq {kept}, xmm7",
            pattern = in(reg) pattern,
            kept = out(reg) kept,
            out("rax") child, out("rcx") _, out("r11") _, out("xmm7") _,
        );
    }
    if child == 0 {
        // SAFETY: ends the process at once; nothing was written since the fork.
        unsafe { libc::_exit(i32::from(kept != pattern)) }
    }
    libc::WEXITSTATUS(wait(child as i32).0) + i32::from(kept != pattern)
}
