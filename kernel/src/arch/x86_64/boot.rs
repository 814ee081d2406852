//! From the loader's hands to Rust: the PVH entry point, the page tables that carry the first steps, and
//! what the loader says about the machine (`hvm_start_info`).
//!
//! QEMU finds the entry's physical address in a note of the ELF file and jumps there in 32-bit protected
//! mode with paging off and EBX pointing to the start information. The boot tables map the first 4 GiB
//! one to one and the first 1 GiB once more at `KERNEL_BASE`; [`paging`](super::paging) replaces them.

use core::arch::global_asm;
use core::ffi::CStr;
use core::slice;

use super::paging::DIRECT_MAP;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4                             // size of the name
    .long 8                             // size of the descriptor
    .long 18                            // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .boot.bss, "aw", @nobits
    .balign 4096
    boot_pml4:      .skip 4096
    boot_pdpt_low:  .skip 4096
    boot_pdpt_high: .skip 4096
    boot_pd:        .skip 4 * 4096      // 4 GiB in pages of 2 MiB
    boot_bss_end:

    .section .boot.text, "ax"
    .balign 8
    boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff        // 0x08: 64-bit code, ring 0
        .quad 0x00cf93000000ffff        // 0x10: data, ring 0
    boot_gdt_pointer:
        .word . - boot_gdt - 1
        .long boot_gdt

    .code32
    .global pvh_start
    pvh_start:
        cli
        cld
        mov esi, ebx                    // hvm_start_info

        // The loader need not have cleared what the file does not hold.
        mov edi, offset boot_pml4
        mov ecx, offset boot_bss_end
        sub ecx, edi
        shr ecx, 2
        xor eax, eax
        rep stosd

        // 2048 entries of 2 MiB: present, writable, large.
        mov edi, offset boot_pd
        mov eax, 0x83
        mov ecx, 2048
    1:  mov [edi], eax
        add edi, 8
        add eax, 0x200000
        loop 1b

        mov eax, offset boot_pd + 3
        mov edi, offset boot_pdpt_low
        mov [edi], eax
        mov edx, offset boot_pdpt_high
        mov [edx + 510 * 8], eax
        add eax, 0x1000
        mov [edi + 8], eax
        add eax, 0x1000
        mov [edi + 16], eax
        add eax, 0x1000
        mov [edi + 24], eax
        mov edx, offset boot_pml4
        mov eax, offset boot_pdpt_low + 3
        mov [edx], eax
        mov eax, offset boot_pdpt_high + 3
        mov [edx + 511 * 8], eax

        mov eax, cr4
        or eax, 1 << 5                  // PAE
        mov cr4, eax
        mov cr3, edx
        mov ecx, 0xc0000080             // EFER: long mode, no-execute
        rdmsr
        or eax, 1 << 8 | 1 << 11
        wrmsr
        mov eax, cr0
        or eax, 1 << 31 | 1 << 16 | 1   // paging, write protection, protected mode
        mov cr0, eax
        lgdt [boot_gdt_pointer]
        // A far jump to 64-bit code; the assembler's Intel syntax has no spelling of its own for it.
        .byte 0xea
        .long boot_long_mode
        .word 0x08

    .code64
    boot_long_mode:
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        movabs rsp, offset __stack_top
        xor ebp, ebp
        push rbp                        // the end of every backtrace
        push rbp
        mov edi, esi
        movabs rax, offset kernel_main
        call rax
        ud2
    "#
);

/// Type of a memory map entry that is ordinary RAM.
const MEMORY_RAM: u32 = 1;
const START_MAGIC: u32 = 0x336e_c578;

/// `hvm_start_info` of Xen's PVH boot protocol. Addresses are physical.
#[repr(C)]
struct RawStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// A file that the loader put into memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawModule {
    /// Physical address of its first byte.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct RawMemory {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What the loader said. Copies nothing: each method reads the loader's structures, first through the boot tables'
/// one-to-one mapping (the first 4 GiB), later through the direct map.
pub struct StartInfo {
    address: u64,
    /// What is added to a physical address to reach it.
    base: u64,
}

impl StartInfo {
    /// Takes the physical address that the entry code was given. Panics when it does not point at start
    /// information with a memory map: nothing can be done without.
    ///
    /// # Safety
    /// The boot tables must be active, and `address` must come from the loader.
    pub unsafe fn read(address: u64) -> StartInfo {
        let info = StartInfo { address, base: 0 };
        let raw = info.raw();
        assert_eq!(raw.magic, START_MAGIC, "not started through PVH");
        assert!(
            raw.version >= 1 && raw.memory_map_entries > 0,
            "the loader gave no memory map"
        );
        info
    }

    /// The same through the direct map, where it can be read for good.
    ///
    /// # Safety
    /// The kernel's own tables are active, and what [`occupied`](Self::occupied) names is kept.
    pub unsafe fn through_direct_map(self) -> StartInfo {
        StartInfo {
            base: DIRECT_MAP,
            ..self
        }
    }

    fn at<T>(&self, address: u64) -> *const T {
        (self.base + address) as *const T
    }

    fn raw(&self) -> &'static RawStartInfo {
        // SAFETY: the loader's structure, mapped as whoever made this value vouched.
        unsafe { &*self.at(self.address) }
    }

    /// Physical address of ACPI's root pointer; 0 if unknown.
    pub fn rsdp(&self) -> u64 {
        self.raw().rsdp
    }

    /// The command line, empty if there is none.
    pub fn command_line(&self) -> &'static [u8] {
        match self.raw().command_line {
            0 => b"",
            // SAFETY: the loader ends the string with a zero byte, and it is mapped.
            address => unsafe { CStr::from_ptr(self.at(address)) }.to_bytes(),
        }
    }

    /// Files that were loaded beside the kernel.
    pub fn modules(&self) -> &'static [RawModule] {
        let raw = self.raw();
        match raw.module_count {
            0 => &[],
            // SAFETY: the loader's own count and address, mapped.
            count => unsafe { slice::from_raw_parts(self.at(raw.modules), count as usize) },
        }
    }

    /// Start and size in bytes of each range of RAM.
    pub fn ram(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let raw = self.raw();
        let count = raw.memory_map_entries as usize;
        // SAFETY: the loader's own count and address, mapped.
        let map: &[RawMemory] = unsafe { slice::from_raw_parts(self.at(raw.memory_map), count) };
        map.iter()
            .filter(|entry| entry.kind == MEMORY_RAM)
            .map(|entry| (entry.address, entry.size))
    }

    /// What the loader's own structures occupy, so that nobody hands it out while it is being read:
    /// start and size in bytes.
    pub fn occupied(&self) -> [(u64, u64); 4] {
        let raw = self.raw();
        [
            (self.address, size_of::<RawStartInfo>() as u64),
            (
                raw.memory_map,
                u64::from(raw.memory_map_entries) * size_of::<RawMemory>() as u64,
            ),
            (
                raw.modules,
                u64::from(raw.module_count) * size_of::<RawModule>() as u64,
            ),
            (raw.command_line, self.command_line().len() as u64 + 1),
        ]
    }
}
