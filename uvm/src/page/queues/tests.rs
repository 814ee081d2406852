//! Order, laziness and wiring.

use std::vec::Vec;

use super::*;
use crate::page::freelist::{AllocFor, Zero};
use crate::testing::Host;

fn frames(host: &Host, n: usize) -> Vec<Frame> {
    (0..n)
        .map(|_| host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap())
        .collect()
}

fn queued(host: &Host, queue: Queue) -> Vec<Frame> {
    let mut all = Vec::new();
    host.uvm.for_each_queued(queue, |f| {
        all.push(f);
        core::ops::ControlFlow::Continue(())
    });
    all
}

#[test]
fn oldest_first() {
    let host = Host::new(256);
    let f = frames(&host, 4);
    f.iter().for_each(|&f| host.uvm.activate(f));
    assert_eq!(queued(&host, Queue::Active), f);
    host.uvm.activate(f[0]);
    assert_eq!(
        queued(&host, Queue::Active),
        f,
        "active already: it keeps its place"
    );
    host.uvm.requeue(f[0]);
    assert_eq!(queued(&host, Queue::Active), [f[1], f[2], f[3], f[0]]);
    host.uvm.deactivate(f[2]);
    assert_eq!(host.uvm.queue_of(f[2]), Some(Queue::Inactive));
    assert_eq!(queued(&host, Queue::Active), [f[1], f[3], f[0]]);
    assert_eq!(queued(&host, Queue::Inactive), [f[2]]);
    let mut two = ArrayVec::<Frame, 2>::new();
    host.uvm.take_oldest(Queue::Active, Sort::File, 9, &mut two);
    assert_eq!(two.as_slice(), [f[1], f[3]]);
    assert_eq!(queued(&host, Queue::Active), [f[0]]);
    host.uvm.put_back(&two);
    assert_eq!(queued(&host, Queue::Active), [f[0], f[1], f[3]]);
    assert_eq!(
        host.uvm.queue_counts(),
        QueueCounts {
            active: 3,
            inactive: 1
        }
    );
}

#[test]
fn what_was_taken_off_goes_where_it_belongs_by_then() {
    let host = Host::new(256);
    let f = frames(&host, 5);
    f.iter().for_each(|&f| host.uvm.deactivate(f));
    let mut taken = ArrayVec::<Frame, 4>::new();
    host.uvm
        .take_oldest(Queue::Inactive, Sort::File, 9, &mut taken);
    assert_eq!(taken[..], f[..4]);
    // Freed; freed and used again; has changed its mind; used no more.
    host.uvm.free_frame(f[1]);
    host.uvm.free_frame(f[0]);
    let again = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    assert_eq!(again, f[0]);
    host.uvm.activate(again);
    host.uvm.activate(f[2]);
    host.uvm.put_back(&taken);
    assert_eq!(queued(&host, Queue::Active), [again, f[2]]);
    assert_eq!(queued(&host, Queue::Inactive), [f[4], f[3]]);
    let counts = host.uvm.queue_counts();
    assert_eq!((counts.active, counts.inactive), (2, 2));
}

#[test]
fn a_note_about_a_page_that_has_gone_means_nothing() {
    let host = Host::new(256);
    let f = frames(&host, 3);
    f.iter().for_each(|&f| host.uvm.activate(f));
    // Before the batch is looked at: freed, changed its mind, freed and used again.
    host.uvm.free_frame(f[0]);
    host.uvm.deactivate(f[1]);
    host.uvm.free_frame(f[2]);
    let again = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    assert_eq!(again, f[2]);
    host.uvm.activate(again);
    assert_eq!(queued(&host, Queue::Active), [again]);
    assert_eq!(queued(&host, Queue::Inactive), [f[1]]);
    host.uvm.free_frame(again);
    host.uvm.free_frame(f[1]);
    assert_eq!(
        host.uvm.queue_counts(),
        QueueCounts {
            active: 0,
            inactive: 0
        }
    );
}

#[test]
fn wired_pages_are_on_no_queue() {
    let host = Host::new(256);
    let f = frames(&host, 1)[0];
    host.uvm.activate(f);
    host.uvm.wire_page(f).unwrap();
    host.uvm.wire_page(f).unwrap();
    assert_eq!(host.uvm.queue_of(f), None);
    host.uvm.activate(f);
    host.uvm.deactivate(f);
    assert_eq!(host.uvm.queue_of(f), None);
    assert_eq!(host.uvm.meter().gauge(Gauge::Wired), 1);
    host.uvm.unwire_page(f);
    assert_eq!(host.uvm.queue_of(f), None);
    host.uvm.unwire_page(f);
    assert_eq!(host.uvm.queue_of(f), Some(Queue::Active));
    assert_eq!(host.uvm.meter().gauge(Gauge::Wired), 0);
}

#[test]
fn one_lock_for_a_batch() {
    let host = Host::new(600);
    let f = frames(&host, 320);
    f.iter().for_each(|&f| host.uvm.activate(f));
    assert_eq!(host.uvm.meter().get(Counter::QueueLocks), 9);
    assert_eq!(host.uvm.queue_counts().active, 320);
}
