//! The tree against a plain list.

use alloc::vec::Vec;

use proptest::prelude::*;

use crate::map::tree::{Node, Room, Side, Span, Tree};
use crate::pool::Pool;
use crate::testing::Host;

/// Positions that the tests use.
const END: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    start: u64,
    end: u64,
    margin: u64,
}

impl Span for Item {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
    fn margin(&self) -> u64 {
        self.margin
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Item),
    Remove(u64),
    /// Moves the end, or the start, of what begins at or after a position, as far as there is room.
    Resize(u64, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let margin = prop_oneof![4 => Just(0u64), 1 => 1u64..12];
    let item = (0..END - 1, 1u64..12, margin).prop_map(|(start, len, margin)| Item {
        start,
        end: (start + len).min(END),
        margin,
    });
    prop_oneof![
        3 => item.prop_map(Step::Insert),
        1 => (0..END).prop_map(Step::Remove),
        1 => (0..END, 0u64..12, any::<bool>()).prop_map(|(at, by, up)| Step::Resize(at, by, up)),
    ]
}

fn room() -> impl Strategy<Value = Room> {
    (1u64..40, 0u32..6, 0..END, 0..=END).prop_map(|(len, align, low, high)| Room {
        len,
        align: 1 << align,
        low,
        high,
    })
}

/// All places for `room` between `items`.
fn places(items: &[Item], room: &Room) -> Vec<u64> {
    let fits = |&at: &u64| {
        let end = at + room.len;
        let next = items.iter().find(|i| i.start >= at);
        at.is_multiple_of(room.align)
            && end <= room.high
            && items.iter().all(|i| i.end <= at || end <= i.start)
            && next.is_none_or(|next| end <= next.start.saturating_sub(next.margin))
    };
    (room.low..room.high).filter(fits).collect()
}

proptest! {
    #[test]
    fn tree_is_a_sorted_list(
        steps in prop::collection::vec(step(), 1..80),
        rooms in prop::collection::vec(room(), 20),
    ) {
        let host = Host::new(256);
        let pool: Pool<Node<Item>> = Pool::new("items", 1);
        let mut tree = Tree::new();
        let mut items: Vec<Item> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(item) => {
                    let taken = items.iter().any(|i| i.start < item.end && item.start < i.end);
                    prop_assert_eq!(tree.overlaps(item.start, item.end), taken);
                    if !taken {
                        tree.insert(pool.alloc(&host.uvm, Node::new(item)).unwrap());
                        items.push(item);
                        items.sort_by_key(|i| i.start);
                    }
                }
                Step::Remove(at) => {
                    let index = items.iter().position(|i| i.start == at);
                    let gone = tree.remove(at).map(|node| *node.value());
                    prop_assert_eq!(gone, index.map(|index| items.remove(index)));
                }
                Step::Resize(at, by, end) => {
                    let Some(index) = items.iter().position(|i| i.start >= at) else { continue };
                    let old = items[index];
                    let low = index.checked_sub(1).map_or(0, |i| items[i].end);
                    let high = items.get(index + 1).map_or(END, |i| i.start);
                    let item = &mut items[index];
                    if end {
                        item.end = (old.start + 1 + by).min(high);
                    } else {
                        item.start = old.start.saturating_sub(by).max(low);
                    }
                    let new = *item;
                    prop_assert_eq!(tree.modify(old.start, |i| *i = new), Some(()));
                }
            }
            prop_assert_eq!(tree.len(), items.len());
            prop_assert!(tree.iter().eq(items.iter()));
        }
        for at in 0..END {
            let covers = |i: &&Item| i.start <= at && at < i.end;
            prop_assert_eq!(tree.find(at).map(Node::value), items.iter().find(covers));
            prop_assert_eq!(tree.from(at), items.iter().find(|i| i.end > at));
            prop_assert_eq!(tree.before(at), items.iter().rfind(|i| i.start < at));
        }
        for room in rooms {
            let places = places(&items, &room);
            for side in [Side::High, Side::Low] {
                let found = tree.find_room(room, side);
                prop_assert_eq!(found.is_some(), !places.is_empty());
                if let Some(at) = found {
                    prop_assert!(places.contains(&at), "{} of {:?}", at, places);
                    let best = match side {
                        Side::High => places.last(),
                        Side::Low => places.first(),
                    };
                    prop_assert!(room.align > 1 || Some(&at) == best);
                }
            }
        }
    }
}

#[test]
fn a_margin_hides_only_the_hole_before_it() {
    let host = Host::new(256);
    let pool: Pool<Node<Item>> = Pool::new("items", 1);
    let mut tree = Tree::new();
    for (start, margin) in [(8, 8), (2, 0)] {
        let item = Item {
            start,
            end: start + 1,
            margin,
        };
        tree.insert(pool.alloc(&host.uvm, Node::new(item)).unwrap());
    }
    let room = Room {
        len: 1,
        align: 1,
        low: 0,
        high: 8,
    };
    assert_eq!(tree.find_room(room, Side::High), Some(1));
    assert_eq!(tree.find_room(room, Side::Low), Some(0));
}
