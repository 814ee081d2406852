//! The pmap against a flat model, through the machine's own MMU.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::addr::{PAGE_SIZE, VaRange};
use crate::machine::Machine;
use crate::prot::Access;
use crate::testing::{Host, HostConfig, on_cpu};

const BASE: u64 = 0x5000_0000_0000;

fn va(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE_SIZE as u64)
}

fn range(page: u64, pages: usize) -> VaRange {
    VaRange::of_pages(va(page), pages)
}

fn frame(host: &Host) -> Frame {
    host.uvm
        .alloc_frame(AllocFor::User, Zero::Yes)
        .expect("a free frame")
}

fn enter(host: &Host, pmap: &Pmap, page: u64, frame: Frame, prot: Prot) {
    pmap.enter(&host.uvm, va(page), frame, prot, EnterFlags::empty())
        .expect("memory for tables");
}

/// Every translation is in the reverse map of its page, and nothing else is there.
fn check_reverse_maps(host: &Host, pmaps: &[&Ref<Pmap>]) {
    let mut forward = Vec::new();
    for pmap in pmaps {
        let mut resident = 0;
        let mut wired = 0;
        pmap.for_each(&host.uvm, |va, mapping| {
            forward.push((mapping.frame, pmap.root().unwrap(), va));
            resident += 1;
            wired += usize::from(mapping.wired);
        });
        assert_eq!(
            (resident, wired),
            (pmap.stats().resident, pmap.stats().wired)
        );
    }
    let mut reverse = Vec::new();
    for frame in host.uvm.pages().frames() {
        host.uvm
            .for_each_mapping(frame, |root, va| reverse.push((frame, root, va)));
    }
    forward.sort();
    reverse.sort();
    assert_eq!(forward, reverse);
}

#[test]
fn enter_extract_remove() {
    let host = Host::new(256);
    let before = host.uvm.free_frames();
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    let mapping = pmap.extract(&host.uvm, va(0)).unwrap();
    assert_eq!(
        (mapping.frame, mapping.prot, mapping.wired),
        (f, Prot::RW, false)
    );
    assert_eq!(
        pmap.stats(),
        PmapStats {
            resident: 1,
            wired: 0,
            tables: 4
        }
    );
    assert!(host.uvm.is_mapped(f));
    pmap.remove(&host.uvm, range(0, 1));
    pmap.update(&host.uvm);
    assert_eq!(pmap.extract(&host.uvm, va(0)), None);
    assert_eq!(
        pmap.stats(),
        PmapStats {
            resident: 0,
            wired: 0,
            tables: 1
        }
    );
    assert!(!host.uvm.is_mapped(f));
    host.uvm.free_frame(f);
    drop(pmap);
    host.uvm.pmap_pool.reclaim(&host.uvm);
    assert_eq!(host.uvm.free_frames(), before);
}

#[test]
fn accessed_and_dirty_reach_the_page() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    assert!(!host.uvm.is_referenced(f) && !host.uvm.is_modified(f));
    assert_eq!(host.machine.load(va(0)), Ok(0));
    assert!(host.uvm.is_referenced(f) && !host.uvm.is_modified(f));
    host.machine.store(va(0), 7).unwrap();
    assert!(host.uvm.is_modified(f));
    // Removal hands the bits over.
    pmap.remove(&host.uvm, range(0, 1));
    pmap.update(&host.uvm);
    assert!(host.uvm.is_modified(f) && host.uvm.is_referenced(f));
    assert!(host.uvm.clear_modified(f) && host.uvm.clear_reference(f));
    assert!(!host.uvm.is_modified(f) && !host.uvm.is_referenced(f));
    host.uvm.free_frame(f);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn clear_modified_notices_the_next_write() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    host.machine.store(va(0), 1).unwrap();
    assert!(host.uvm.clear_modified(f));
    host.machine.store(va(0), 2).unwrap();
    assert!(
        host.uvm.is_modified(f),
        "a write through a stale dirty translation was missed"
    );
    pmap.remove_all(&host.uvm);
    pmap.update(&host.uvm);
    host.uvm.free_frame(f);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn presets_of_an_access() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    pmap.enter(&host.uvm, va(0), f, Prot::RW, EnterFlags::WRITE)
        .unwrap();
    assert!(host.uvm.is_modified(f) && host.uvm.is_referenced(f));
}

#[test]
fn removal_is_seen_only_after_update() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 3, f, Prot::RW);
    host.machine.store(va(3), 9).unwrap();
    pmap.remove(&host.uvm, range(3, 1));
    // The stale translation still works: this is what `update` is for, and that the TLBs here can
    // show it.
    assert_eq!(host.machine.load(va(3)), Ok(9));
    pmap.update(&host.uvm);
    let fault = host.machine.load(va(3)).unwrap_err();
    assert!(!fault.present);
    host.uvm.free_frame(f);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn tables_are_not_reused_before_the_flush() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    host.machine.load(va(0)).unwrap();
    let free = host.uvm.free_frames();
    pmap.remove(&host.uvm, range(0, 1));
    assert_eq!(host.uvm.free_frames(), free);
    pmap.update(&host.uvm);
    assert_eq!(host.uvm.free_frames(), free + 3);
    host.uvm.free_frame(f);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn first_enter_needs_no_flush_and_many_removals_few() {
    let host = Host::new(512);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let frames: Vec<_> = (0..64).map(|_| frame(&host)).collect();
    for (i, &f) in frames.iter().enumerate() {
        enter(&host, &pmap, i as u64, f, Prot::RW);
        pmap.update(&host.uvm);
    }
    let flushes = |host: &Host| {
        host.uvm.meter().get(Counter::TlbFlush) + host.uvm.meter().get(Counter::TlbFlushAll)
    };
    assert_eq!(flushes(&host), 0);
    pmap.remove(&host.uvm, range(0, 64));
    pmap.update(&host.uvm);
    assert_eq!(flushes(&host), 1);
    frames.iter().for_each(|&f| host.uvm.free_frame(f));
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn protect_and_upgrade() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    host.machine.store(va(0), 1).unwrap();
    pmap.protect(&host.uvm, range(0, 1), Prot::READ);
    pmap.update(&host.uvm);
    assert!(host.machine.store(va(0), 2).unwrap_err().present);
    assert_eq!(host.machine.load(va(0)), Ok(1));
    let flushed = host.uvm.meter().get(Counter::TlbFlush);
    enter(&host, &pmap, 0, f, Prot::RW);
    pmap.update(&host.uvm);
    assert_eq!(
        host.uvm.meter().get(Counter::TlbFlush),
        flushed,
        "gaining a right needs no flush"
    );
    host.machine.store(va(0), 3).unwrap();
    assert!(host.machine.translate(va(0), Access::Exec, true).is_err());
    enter(&host, &pmap, 0, f, Prot::READ | Prot::EXEC);
    pmap.update(&host.uvm);
    host.machine.translate(va(0), Access::Exec, true).unwrap();
    assert!(host.machine.store(va(0), 4).is_err());
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn copy_on_write_replaces_the_frame() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let (old, new) = (frame(&host), frame(&host));
    enter(&host, &pmap, 0, old, Prot::READ);
    host.machine.load(va(0)).unwrap();
    host.uvm.bytes(new).write(0, &[5]);
    enter(&host, &pmap, 0, new, Prot::RW);
    pmap.update(&host.uvm);
    assert_eq!(host.machine.load(va(0)), Ok(5));
    assert!(!host.uvm.is_mapped(old) && host.uvm.is_mapped(new) && host.uvm.is_referenced(old));
    assert_eq!(pmap.stats().resident, 1);
    check_reverse_maps(&host, &[&pmap]);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn page_protect_reaches_every_address_space_and_cpu() {
    let host = Host::with(&HostConfig {
        cpus: 2,
        frames: 1024,
        ..HostConfig::default()
    });
    let f = frame(&host);
    let pmaps: Vec<_> = (0..40).map(|_| Pmap::new(&host.uvm).unwrap()).collect();
    for (i, pmap) in pmaps.iter().enumerate() {
        enter(&host, pmap, i as u64, f, Prot::RW);
    }
    for (cpu, pmap) in pmaps.iter().enumerate().take(2) {
        on_cpu(cpu);
        host.uvm.pmap_activate(pmap);
        host.machine.store(va(cpu as u64), 1).unwrap();
    }
    check_reverse_maps(&host, &pmaps.iter().collect::<Vec<_>>());
    host.uvm.page_protect(f, Prot::READ);
    for cpu in 0..2 {
        on_cpu(cpu);
        assert!(host.machine.store(va(cpu as u64), 1).unwrap_err().present);
        assert_eq!(host.machine.load(va(cpu as u64)), Ok(1));
    }
    host.uvm.page_protect(f, Prot::empty());
    assert!(host.uvm.is_modified(f));
    for (cpu, pmap) in pmaps.iter().enumerate().take(2) {
        on_cpu(cpu);
        assert!(!host.machine.load(va(cpu as u64)).unwrap_err().present);
        host.uvm.pmap_deactivate(pmap);
    }
    on_cpu(0);
    check_reverse_maps(&host, &pmaps.iter().collect::<Vec<_>>());
    assert_eq!(host.uvm.pv_pool.in_use(), 0);
    // The emptied tables are found again.
    assert_eq!(pmaps[0].stats().tables, 4);
    pmaps[0].collect(&host.uvm);
    pmaps[0].update(&host.uvm);
    assert_eq!(pmaps[0].stats().tables, 1);
    host.uvm.free_frame(f);
}

#[test]
fn page_protect_flushes_what_another_cpu_has_only_noted() {
    let host = Host::with(&HostConfig {
        cpus: 2,
        ..HostConfig::default()
    });
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    on_cpu(1);
    host.uvm.pmap_activate(&pmap);
    host.machine.store(va(0), 1).unwrap();
    on_cpu(0);
    pmap.remove(&host.uvm, range(0, 1));
    host.uvm.page_protect(f, Prot::empty());
    on_cpu(1);
    assert!(host.machine.load(va(0)).is_err());
    host.uvm.pmap_deactivate(&pmap);
    on_cpu(0);
    pmap.update(&host.uvm);
}

#[test]
fn switching_keeps_the_pmap_until_the_next_switch() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    host.uvm.pmap_activate(&pmap);
    assert_eq!(host.machine.loaded_root(), pmap.root().unwrap().addr());
    assert_eq!(Ref::count(&pmap), 2);
    host.uvm.pmap_deactivate(&pmap);
    assert_ne!(host.machine.loaded_root(), pmap.root().unwrap().addr());
    assert_eq!(Ref::count(&pmap), 1);
    assert_eq!(host.uvm.meter().get(Counter::PmapActivate), 1);
    assert_eq!(host.uvm.meter().get(Counter::PmapDeactivate), 1);
}

#[test]
fn wired_count_follows() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    pmap.enter(&host.uvm, va(0), f, Prot::RW, EnterFlags::WIRED)
        .unwrap();
    assert_eq!(pmap.stats().wired, 1);
    pmap.unwire(&host.uvm, va(0));
    pmap.unwire(&host.uvm, va(0));
    assert_eq!(pmap.stats().wired, 0);
    pmap.enter(&host.uvm, va(0), f, Prot::RW, EnterFlags::WIRED)
        .unwrap();
    assert_eq!(pmap.stats().wired, 1);
    pmap.remove(&host.uvm, range(0, 1));
    assert_eq!(pmap.stats().wired, 0);
}

#[test]
fn out_of_memory_leaves_nothing_behind() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    let hogged: Vec<_> =
        core::iter::from_fn(|| host.uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    let failed = pmap.enter(&host.uvm, va(0), f, Prot::RW, EnterFlags::empty());
    assert_eq!(failed, Err(OutOfMemory));
    assert!(!host.uvm.is_mapped(f));
    hogged.into_iter().for_each(|f| host.uvm.free_frame(f));
    enter(&host, &pmap, 0, f, Prot::RW);
    check_reverse_maps(&host, &[&pmap]);
}

#[test]
fn kernel_mappings_are_seen_by_all() {
    let host = Host::new(256);
    let kva = VirtAddr::new(0xffff_c000_0000_0000);
    let f = frame(&host);
    host.uvm.kenter(kva, f, Prot::RW).unwrap();
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    host.machine.translate(kva, Access::Write, false).unwrap();
    assert!(
        host.machine
            .translate(kva, Access::Read, true)
            .unwrap_err()
            .present,
        "ring 3 may not"
    );
    assert!(host.machine.translate(kva, Access::Exec, false).is_err());
    assert_eq!(host.uvm.kextract(kva).unwrap().frame, f);
    host.uvm.kremove(VaRange::of_pages(kva, 1));
    host.machine
        .translate(kva, Access::Write, false)
        .unwrap_err_or_stale();
    host.uvm.kernel_update();
    assert!(host.machine.translate(kva, Access::Write, false).is_err());
    host.uvm.free_frame(f);
    host.uvm.pmap_deactivate(&pmap);
}

trait Stale {
    fn unwrap_err_or_stale(self);
}
impl Stale for Result<*mut u8, crate::testing::PageFault> {
    fn unwrap_err_or_stale(self) {}
}

/// Random operations from a seed against a map from (space, page) to (frame, rights).
#[test]
fn random_operations_agree_with_a_flat_model() {
    for seed in 1..=20_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let host = Host::with(&HostConfig {
            cpus: 3,
            frames: 600,
            hole: 40,
            ..HostConfig::default()
        });
        let pmaps: Vec<_> = (0..4).map(|_| Pmap::new(&host.uvm).unwrap()).collect();
        let frames: Vec<_> = (0..24).map(|_| frame(&host)).collect();
        for (i, &f) in frames.iter().enumerate() {
            host.uvm.bytes(f).write(0, &[i as u8]);
        }
        let mut model = BTreeMap::<(usize, u64), (usize, Prot)>::new();
        // Pages far apart as well, for several leaf tables and levels.
        let page = |r: u64| (r % 40) + (r / 40 % 3) * 511 + (r / 120 % 2) * 512 * 512;
        for _ in 0..1500 {
            on_cpu(random(3) as usize);
            let space = random(4) as usize;
            let pmap = &pmaps[space];
            let at = page(random(240));
            match random(12) {
                0..=4 => {
                    let f = random(24) as usize;
                    let prot = [Prot::READ, Prot::RW, Prot::READ | Prot::EXEC][random(3) as usize];
                    enter(&host, pmap, at, frames[f], prot);
                    model.insert((space, at), (f, prot));
                }
                5 => {
                    let pages = 1 + random(30);
                    pmap.remove(&host.uvm, range(at, pages as usize));
                    model.retain(|&(s, p), _| s != space || p < at || p >= at + pages);
                }
                6 => {
                    let pages = 1 + random(30);
                    pmap.protect(&host.uvm, range(at, pages as usize), Prot::READ);
                    for (_, (_, prot)) in model.range_mut((space, at)..(space, at + pages)) {
                        *prot &= Prot::READ;
                    }
                }
                7 => {
                    let f = random(24) as usize;
                    host.uvm.page_protect(frames[f], Prot::empty());
                    model.retain(|_, &mut (g, _)| g != f);
                }
                8 => {
                    let f = random(24) as usize;
                    host.uvm.page_protect(frames[f], Prot::READ);
                    model
                        .values_mut()
                        .filter(|(g, _)| *g == f)
                        .for_each(|(_, prot)| *prot &= Prot::READ);
                }
                9 => {
                    host.uvm.clear_reference(frames[random(24) as usize]);
                    pmap.collect(&host.uvm);
                }
                10 => {
                    let f = frames[random(24) as usize];
                    host.uvm.clear_modified(f);
                    assert!(!host.uvm.is_modified(f));
                }
                _ => host.uvm.pmap_activate(pmap),
            }
            pmap.update(&host.uvm);
            // What ring 3 sees, through whatever the TLB of this CPU holds.
            host.uvm.pmap_activate(pmap);
            let at = page(random(240));
            let seen = model.get(&(space, at));
            assert_eq!(
                host.machine.load(va(at)).ok(),
                seen.map(|&(f, _)| f as u8),
                "seed {seed}"
            );
            let may_write = seen.is_some_and(|(_, prot)| prot.contains(Prot::WRITE));
            if may_write {
                let f = seen.unwrap().0;
                host.machine.store(va(at), f as u8).unwrap();
                assert!(host.uvm.is_modified(frames[f]), "seed {seed}");
            } else {
                assert!(
                    host.machine.translate(va(at), Access::Write, true).is_err(),
                    "seed {seed}"
                );
            }
        }
        check_reverse_maps(&host, &pmaps.iter().collect::<Vec<_>>());
        for cpu in 0..3 {
            on_cpu(cpu);
            pmaps.iter().for_each(|pmap| host.uvm.pmap_deactivate(pmap));
        }
        on_cpu(0);
        let pages = host.uvm.pages().managed();
        drop(pmaps);
        assert_eq!(host.uvm.pv_pool.in_use(), 0);
        frames.iter().for_each(|&f| host.uvm.free_frame(f));
        host.uvm.pv_pool.reclaim(&host.uvm);
        host.uvm.pmap_pool.reclaim(&host.uvm);
        assert_eq!(host.uvm.free_frames(), pages, "seed {seed}: frames lost");
        assert_eq!(host.machine.now(), 0);
    }
}

/// Two threads, two CPUs: faults in one, `page_protect` in the other.
#[test]
fn page_protect_races_with_enter_and_remove() {
    let host = Host::with(&HostConfig {
        cpus: 2,
        ..HostConfig::default()
    });
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            on_cpu(1);
            for i in 0..20_000 {
                enter(&host, &pmap, i % 3, f, Prot::RW);
                pmap.remove(&host.uvm, range(0, 2));
                pmap.update(&host.uvm);
            }
        });
        for i in 0..20_000 {
            host.uvm.page_protect(
                f,
                if i % 2 == 0 {
                    Prot::empty()
                } else {
                    Prot::READ
                },
            );
            host.uvm.clear_reference(f);
        }
    });
    host.uvm.page_protect(f, Prot::empty());
    check_reverse_maps(&host, &[&pmap]);
    assert_eq!(pmap.stats().resident, 0);
    host.uvm.free_frame(f);
}

#[test]
fn only_wired_mappings_of_a_page_stay() {
    let host = Host::new(256);
    let pmaps: [_; 3] = core::array::from_fn(|_| Pmap::new(&host.uvm).unwrap());
    let f = frame(&host);
    // More than one batch, the wired ones in between.
    for page in 0..30 {
        for (i, pmap) in (0..).zip(&pmaps) {
            let flags = if (page + i) % 5 == 0 {
                EnterFlags::WIRED
            } else {
                EnterFlags::WRITE
            };
            pmap.enter(&host.uvm, va(page), f, Prot::RW, flags).unwrap();
        }
    }
    host.uvm.pmap_activate(&pmaps[0]);
    host.machine.store(va(1), 1).unwrap();
    host.uvm.remove_unwired(f);
    assert!(host.machine.load(va(1)).is_err(), "flushed");
    assert!(host.machine.load(va(5)).is_ok());
    assert!(host.uvm.is_modified(f));
    for pmap in &pmaps {
        assert_eq!((pmap.stats().resident, pmap.stats().wired), (6, 6));
    }
    check_reverse_maps(&host, &pmaps.each_ref());
    for pmap in &pmaps {
        pmap.remove(&host.uvm, range(0, 30));
        pmap.update(&host.uvm);
    }
    host.uvm.remove_unwired(f);
    assert!(!host.uvm.is_mapped(f));
    host.uvm.pmap_deactivate(&pmaps[0]);
}

#[test]
fn a_right_lost_by_entering_anew_is_flushed() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    host.machine.store(va(0), 1).unwrap();
    enter(&host, &pmap, 0, f, Prot::READ);
    pmap.update(&host.uvm);
    assert!(host.machine.store(va(0), 2).unwrap_err().present);
    enter(&host, &pmap, 0, f, Prot::READ | Prot::EXEC);
    host.machine.translate(va(0), Access::Exec, true).unwrap();
    enter(&host, &pmap, 0, f, Prot::READ);
    pmap.update(&host.uvm);
    assert!(host.machine.translate(va(0), Access::Exec, true).is_err());
    host.uvm.pmap_deactivate(&pmap);
}

/// The remembered leaf table is that of one 2 MiB range, and no other's.
#[test]
fn a_page_far_away_has_another_table() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    let near = VirtAddr::new(0x10 * PAGE_SIZE as u64);
    let far = VirtAddr::new((0x10 << 18) * PAGE_SIZE as u64);
    let (a, b) = (frame(&host), frame(&host));
    for (va, frame) in [(far, a), (near, b)] {
        pmap.enter(&host.uvm, va, frame, Prot::RW, EnterFlags::empty())
            .unwrap();
    }
    let there = |va| pmap.extract(&host.uvm, va).map(|mapping| mapping.frame);
    assert_eq!((there(far), there(near)), (Some(a), Some(b)));
    assert_eq!(there(far + 0x10 * PAGE_SIZE as u64), None);
    check_reverse_maps(&host, &[&pmap]);
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "before the kernel's TLB entries are flushed")]
fn a_program_does_not_go_on_before_the_kernels_half_is_flushed() {
    let host = Host::new(256);
    let kva = VirtAddr::new(0xffff_c000_0000_0000);
    host.uvm.kenter(kva, frame(&host), Prot::RW).unwrap();
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.assert_flushed(&pmap);
    host.uvm.kremove(VaRange::of_pages(kva, 1));
    host.uvm.assert_flushed(&pmap);
}

#[test]
fn who_waits_for_a_pages_identity_gets_it() {
    const ROUNDS: u64 = 100;
    let host = Host::new(256);
    let f = frame(&host);
    let page = host.uvm.page(f);
    let count = core::sync::atomic::AtomicU64::new(0);
    // Two steps on purpose: only the lock makes them one.
    let step = || count.store(count.load(Relaxed) + 1, Relaxed);
    let round = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                round.wait();
                let identity = page.lock_identity();
                step();
                drop(identity);
                round.wait();
            }
        });
        for _ in 0..ROUNDS {
            let identity = page.lock_identity();
            round.wait();
            // In which the other has begun to wait, most times.
            std::thread::sleep(core::time::Duration::from_micros(50));
            step();
            drop(identity);
            round.wait();
        }
    });
    assert_eq!(count.load(Relaxed), 2 * ROUNDS);
}

#[test]
fn a_walk_stops_at_a_large_page() {
    let host = Host::new(256);
    let pmap = Pmap::new(&host.uvm).unwrap();
    let f = frame(&host);
    enter(&host, &pmap, 0, f, Prot::RW);
    let vpn = Vpn::containing(va(0));
    // SAFETY: the root of a pmap that lives, and nobody else uses it.
    let slot = unsafe { &host.uvm.phys().table(pmap.root().unwrap()).0[walk::index(vpn, 3)] };
    let old = slot.load(Relaxed);
    slot.store(old | 1 << 7, Relaxed);
    // SAFETY: as above.
    let met = unsafe { walk::walk(host.uvm.phys(), pmap.root().unwrap(), vpn) };
    assert!(matches!(met, walk::Walk::Large));
    slot.store(old, Relaxed);
    pmap.remove(&host.uvm, range(0, 1));
    pmap.update(&host.uvm);
    host.uvm.free_frame(f);
}
