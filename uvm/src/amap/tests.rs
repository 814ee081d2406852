//! References by ranges of slots, against a plain count for each slot.

use alloc::vec::Vec;
use core::ops::Range;

use proptest::prelude::*;

use super::{Amap, Runs};
use crate::Uvm;
use crate::addr::{PAGE_SIZE, VaRange, VirtAddr};
use crate::anon::Anon;
use crate::map::{Inherit, MapRequest, Placement};
use crate::meter::Gauge;
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::Ref;
use crate::prot::Prot;
use crate::sim::World;
use crate::testing::Host;

/// First slots of the amap that is tested, and how far it can grow.
const SLOTS: Range<u64> = 10..26;
const ALL: usize = 40;

#[derive(Clone, Debug)]
enum Step {
    /// One entry more shows a part of what one shows.
    Share(usize, u64, u64),
    /// An entry is clipped.
    Clip(usize, u64),
    /// An entry goes.
    Drop(usize),
    /// A page is touched.
    Fill(usize, u64),
    /// An entry grows at its end, or at its start.
    Grow(usize, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let entry = 0usize..64;
    prop_oneof![
        3 => (entry.clone(), 0..16u64, 1..16u64).prop_map(|(e, a, n)| Step::Share(e, a, n)),
        2 => (entry.clone(), 0..16u64).prop_map(|(e, a)| Step::Clip(e, a)),
        4 => entry.clone().prop_map(Step::Drop),
        4 => (entry.clone(), 0..16u64).prop_map(|(e, a)| Step::Fill(e, a)),
        1 => (entry, 1..4u64, any::<bool>()).prop_map(|(e, n, up)| Step::Grow(e, n, up)),
    ]
}

fn anon(uvm: &Uvm) -> Ref<Anon> {
    let frame = uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
    Anon::new(uvm, frame).unwrap()
}

fn len(slots: &Range<u64>) -> u64 {
    slots.end - slots.start
}

/// Everything that the amap says against what the entries show and what was filled.
fn compare(
    amap: &Ref<Amap>,
    entries: &[(Ref<Amap>, Range<u64>)],
    filled: &[bool],
) -> Result<(), TestCaseError> {
    let inner = amap.lock();
    for (slot, &filled) in (0..).zip(filled) {
        let shown = entries.iter().filter(|(_, slots)| slots.contains(&slot));
        let shown = shown.count() as u32;
        prop_assert_eq!(inner.anons.get(slot).is_some(), filled, "slot {}", slot);
        prop_assert!(shown == 0 || inner.slots.contains(&slot));
        match &inner.runs {
            Runs::Uniform if inner.slots.contains(&slot) => {
                prop_assert_eq!(shown as usize, entries.len());
            }
            Runs::Uniform => {}
            Runs::Split(_) => {
                prop_assert_eq!(
                    inner.runs.count_at(slot).unwrap_or(0),
                    shown,
                    "slot {}",
                    slot
                );
            }
            Runs::Lost => prop_assert!(false, "there is memory"),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn row_23_amap_references_are_counted_in_pages(steps in prop::collection::vec(step(), 1..100)) {
        let host = Host::new(512);
        let uvm = &host.uvm;
        let mut entries = Vec::from([(Amap::new(uvm, SLOTS).unwrap(), SLOTS)]);
        let mut filled = [false; ALL];
        for step in steps {
            if entries.is_empty() {
                break;
            }
            let (Step::Share(e, ..) | Step::Clip(e, _) | Step::Drop(e) | Step::Fill(e, _) | Step::Grow(e, ..)) = step;
            let e = e % entries.len();
            let (amap, slots) = entries[e].clone();
            let inside = |n: u64| slots.start + n % len(&slots);
            // A reference of the test's own would count as an entry.
            match step {
                Step::Share(_, a, n) => {
                    let part = inside(a)..(inside(a) + n).min(slots.end);
                    drop(amap);
                    let shared = Amap::reference(&entries[e].0, uvm, part.start, len(&part));
                    entries.push((shared, part));
                }
                Step::Clip(_, a) => {
                    let at = inside(a);
                    drop(amap);
                    if at > slots.start {
                        entries[e].1.end = at;
                        let upper = Amap::split(&entries[e].0, uvm);
                        entries.push((upper, at..slots.end));
                    }
                }
                Step::Drop(_) => {
                    drop(amap);
                    let (gone, _) = entries.swap_remove(e);
                    Amap::unreference(gone, uvm, slots.start, len(&slots));
                    for slot in slots {
                        filled[slot as usize] &= entries.iter().any(|(_, s)| s.contains(&slot));
                    }
                }
                Step::Fill(_, a) => {
                    let at = inside(a);
                    if !filled[at as usize] {
                        filled[at as usize] = true;
                        let mut inner = amap.lock();
                        inner.anons.insert(at, anon(uvm), uvm, &uvm.upper.slot_nodes).unwrap();
                    }
                    drop(amap);
                }
                Step::Grow(_, n, up) => {
                    drop(amap);
                    let alone = entries.len() == 1;
                    let (first, last) = {
                        let inner = entries[e].0.lock();
                        (inner.slots.start, inner.slots.end)
                    };
                    let (room, can) = if up {
                        (slots.end + n <= ALL as u64, alone || slots.end == last)
                    } else {
                        (slots.start >= n, alone || slots.start == first)
                    };
                    if !room {
                        continue;
                    }
                    let did = if up {
                        Amap::extend(&entries[e].0, uvm, slots.clone(), n)
                    } else {
                        Amap::extend_down(&entries[e].0, uvm, slots.clone(), n)
                    };
                    prop_assert_eq!(did, can);
                    if did && up {
                        entries[e].1.end += n;
                    } else if did {
                        entries[e].1.start -= n;
                    }
                }
            }
            if let Some((amap, _)) = entries.first() {
                compare(amap, &entries, &filled)?;
                prop_assert_eq!(Ref::count(amap) as usize, entries.len());
            }
            let pages = filled.iter().filter(|&&f| f).count();
            prop_assert_eq!(uvm.meter().gauge(Gauge::Anonpages) as usize, pages);
        }
        for (amap, slots) in entries {
            Amap::unreference(amap, uvm, slots.start, len(&slots));
        }
        prop_assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 0);
        let upper = &uvm.upper;
        let left = (upper.amaps.in_use(), upper.anons.in_use(), upper.slot_nodes.in_use(), upper.runs.in_use());
        prop_assert_eq!(left, (0, 0, 0, 0));
    }

    /// The same from above: address spaces that fork and unmap parts. `check` counts for each slot who shows it.
    #[test]
    fn row_23_forks_and_partial_unmaps_give_every_page_back(
        steps in prop::collection::vec((0..6u8, 0..4usize, 0..24u64, 1..12u64), 1..50),
    ) {
        const AT: u64 = 0x1000_0000;
        let world = World::new(1024, 0);
        let page = |n: u64| VirtAddr::new(AT + n * PAGE_SIZE as u64);
        let mut spaces = Vec::from([world.space()]);
        let request = MapRequest::anonymous(24 * PAGE_SIZE, Prot::RW);
        spaces[0].map(request.at(Placement::Exclusive(page(0)))).unwrap();
        for (step, which, from, n) in steps {
            let space = spaces[which % spaces.len()].clone();
            let to = (from + n).min(24);
            let range = VaRange::new(page(from), page(to));
            let program = world.program(&space);
            let child = world.run(async move {
                match step {
                    0 => return Some(space.fork().await.unwrap()),
                    1 | 2 => space.unmap(range).await.unwrap(),
                    3 => {
                        let _ = space.inherit(range, if n % 2 == 0 { Inherit::Share } else { Inherit::Copy }).await;
                    }
                    _ => {
                        for at in from..to {
                            // Unless it is unmapped.
                            let _ = program.store(page(at).as_u64(), n as u8).await;
                        }
                    }
                }
                None
            });
            if let Some(child) = child {
                if spaces.len() == 4 {
                    let old = spaces.remove(which);
                    world.run(async move {
                        old.deactivate();
                        old.teardown().await;
                    });
                }
                spaces.push(child);
            }
            world.check_quiet();
        }
        for space in spaces {
            world.run(async move {
                space.deactivate();
                space.teardown().await;
            });
        }
        let report = world.check_quiet();
        prop_assert_eq!((report.anon, report.anons, report.amaps, report.spaces), (0, 0, 0, 0));
        prop_assert_eq!(world.uvm.upper.runs.in_use(), 0);
    }
}

#[test]
fn who_shares_last_shares_with_nobody() {
    let host = Host::new(256);
    let uvm = &host.uvm;
    let amap = Amap::new(uvm, 0..8).unwrap();
    let second = Amap::share(&amap, uvm, 0, 8);
    let third = Amap::share(&amap, uvm, 2, 3);
    assert!(amap.is_shared());
    Amap::unreference(second, uvm, 0, 8);
    assert!(amap.is_shared());
    Amap::unreference(third, uvm, 2, 3);
    assert!(!amap.is_shared());
    Amap::unreference(amap, uvm, 0, 8);
    assert_eq!(uvm.upper.amaps.in_use(), 0);
}
