//! Slabs: frames cut into objects of one size.
//!
//! [`super::Pool`] puts types on top; [`crate::km::Heap`] uses them untyped, one [`Slabs`] per size
//! class. Synchronisation as in the parent module: a lock per CPU's magazine, then one for the
//! slabs.

use core::num::NonZero;
use core::ptr::{self, NonNull};

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::lock::{POOL, POOL_MAGAZINE, SpinLock};
use crate::meter::Counter;
use crate::page::freelist::{AllocFor, Zero};
use crate::percpu::PerCpu;

/// Most objects in a magazine.
const MAGAZINE: usize = 16;
/// Empty slabs that are kept.
const KEEP_EMPTY: usize = 1;
/// Largest object that fits.
pub const MAX_OBJECT: usize = PAGE_SIZE - 64;

/// Slabs for objects of one size. It must not move while it has any: headers point to it.
pub(crate) struct Slabs {
    name: &'static str,
    /// Distance between objects, bytes.
    stride: usize,
    /// Offset of the first.
    first: usize,
    /// Objects in a slab.
    capacity: usize,
    /// Objects that a magazine holds at most.
    rounds: usize,
    magazines: PerCpu<Magazine>,
    inner: SpinLock<Inner, POOL>,
}

type Rounds = ArrayVec<NonNull<u8>, MAGAZINE>;

#[repr(align(64))]
struct Magazine(SpinLock<Rounds, POOL_MAGAZINE>);

#[derive(Default)]
struct Inner {
    /// Slabs with free objects and used ones.
    partial: Option<NonNull<Header>>,
    /// Slabs with free objects only; at most [`KEEP_EMPTY`].
    empty: ArrayVec<NonNull<Header>, KEEP_EMPTY>,
    pages: usize,
    /// Objects outside the slabs' free lists: in use, or in magazines.
    out: usize,
}

// SAFETY: the objects in magazines and free lists belong to the pool, whichever thread looks.
unsafe impl Send for Slabs {}
// SAFETY: all that changes is behind locks.
unsafe impl Sync for Slabs {}

/// Start of each slab. `slabs` and `uvm` never change; the rest is under the lock of the slabs.
pub(super) struct Header {
    pub(super) slabs: NonNull<Slabs>,
    pub(super) uvm: NonNull<Uvm>,
    links: Links,
}

struct Links {
    free: *mut FreeObject,
    used: usize,
    next: Option<NonNull<Header>>,
    prev: Option<NonNull<Header>>,
}

const _: () = assert!(size_of::<Header>() <= PAGE_SIZE - MAX_OBJECT);

struct FreeObject {
    next: *mut FreeObject,
}

impl Header {
    /// The slab that an object is in.
    pub(super) fn of(object: NonNull<u8>) -> NonNull<Header> {
        let page = |a: NonZero<usize>| NonZero::new(a.get() & !(PAGE_SIZE - 1)).unwrap_or(a);
        object.map_addr(page).cast()
    }

    /// The part that is under the lock. A raw pointer, because others may read `slabs` and `uvm`
    /// meanwhile.
    fn links(slab: NonNull<Header>) -> *mut Links {
        // SAFETY: only an address inside the slab.
        unsafe { &raw mut (*slab.as_ptr()).links }
    }
}

impl Slabs {
    pub(crate) fn new(name: &'static str, size: usize, align: usize, cpus: usize) -> Self {
        let align = align.max(align_of::<FreeObject>());
        let stride = size.max(size_of::<FreeObject>()).next_multiple_of(align);
        let first = size_of::<Header>().next_multiple_of(align);
        let capacity = (PAGE_SIZE - first) / stride;
        assert!(capacity > 0, "objects of {name} do not fit a page");
        Self {
            name,
            stride,
            first,
            capacity,
            // Large objects: not more than two slabs' worth idle per CPU.
            rounds: MAGAZINE.min(2 * capacity),
            magazines: PerCpu::new(cpus, || Magazine(SpinLock::new(ArrayVec::new()))),
            inner: SpinLock::default(),
        }
    }

    /// Objects in a slab.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn pages(&self) -> usize {
        self.inner.lock().pages
    }

    /// Memory for one object; never waits.
    #[inline]
    pub(crate) fn alloc(&self, uvm: &Uvm, who: AllocFor) -> Option<NonNull<u8>> {
        self.alloc_cached(uvm).or_else(|| self.refill(uvm, who))
    }

    /// Memory for one object if this CPU's magazine has any.
    #[inline]
    pub(super) fn alloc_cached(&self, uvm: &Uvm) -> Option<NonNull<u8>> {
        self.magazines.get(uvm.cpu()).0.lock().pop()
    }

    #[cold]
    #[inline(never)]
    pub(super) fn refill(&self, uvm: &Uvm, who: AllocFor) -> Option<NonNull<u8>> {
        uvm.count(Counter::PoolLocks);
        let mut inner = self.inner.lock();
        let mut object = inner.take();
        if object.is_none() {
            drop(inner);
            let slab = self.new_slab(uvm, who)?;
            inner = self.inner.lock();
            inner.pages += 1;
            inner.insert(slab);
            object = inner.take();
        }
        // Only what is there already fills the magazine: it is no reason to take another page.
        let mut spare = Rounds::new();
        while spare.len() < self.rounds / 2 {
            let Some(object) = inner.take() else { break };
            spare.push(object);
        }
        drop(inner);
        let mut magazine = self.magazines.get(uvm.cpu()).0.lock();
        while magazine.len() < self.rounds {
            let Some(object) = spare.pop() else { break };
            magazine.push(object);
        }
        drop(magazine);
        self.put_back(uvm, &spare);
        object
    }

    /// Frees one object's memory.
    ///
    /// # Safety
    /// It came from these slabs' `alloc`, and nothing uses it any more.
    #[inline]
    pub(crate) unsafe fn free(&self, uvm: &Uvm, object: NonNull<u8>) {
        let mut magazine = self.magazines.get(uvm.cpu()).0.lock();
        if magazine.len() < self.rounds {
            magazine.push(object);
            return;
        }
        // The older half goes: the younger is warm in the cache.
        let old: Rounds = magazine.drain(..self.rounds.div_ceil(2)).collect();
        magazine.push(object);
        drop(magazine);
        self.put_back(uvm, &old);
    }

    #[cold]
    #[inline(never)]
    fn put_back(&self, uvm: &Uvm, objects: &[NonNull<u8>]) {
        if objects.is_empty() {
            return;
        }
        uvm.count(Counter::PoolLocks);
        let mut emptied = ArrayVec::<NonNull<Header>, MAGAZINE>::new();
        {
            let mut inner = self.inner.lock();
            emptied.extend(
                objects
                    .iter()
                    .filter_map(|&object| inner.put(object, self.capacity)),
            );
        }
        for slab in emptied {
            Self::release_slab(uvm, slab);
        }
    }

    fn new_slab(&self, uvm: &Uvm, who: AllocFor) -> Option<NonNull<Header>> {
        let frame = uvm.alloc_frame(who, Zero::No)?;
        uvm.count(Counter::SlabAllocs);
        uvm.claim_for_kernel(frame);
        let slab = NonNull::new(uvm.phys().ptr(frame))?;
        let mut free = ptr::null_mut();
        for i in (0..self.capacity).rev() {
            // SAFETY: within the page, which is ours alone; aligned by `new`.
            unsafe {
                let object = slab.add(self.first + i * self.stride).cast::<FreeObject>();
                object.write(FreeObject { next: free });
                free = object.as_ptr();
            }
        }
        let slab = slab.cast::<Header>();
        let links = Links {
            free,
            used: 0,
            next: None,
            prev: None,
        };
        // SAFETY: the page's start, aligned and ours.
        unsafe {
            slab.write(Header {
                slabs: NonNull::from(self),
                uvm: NonNull::from(uvm),
                links,
            })
        };
        Some(slab)
    }

    /// Frees the frame of a slab that is empty and on no list.
    fn release_slab(uvm: &Uvm, slab: NonNull<Header>) {
        uvm.count(Counter::SlabFrees);
        uvm.free_kernel_frame(uvm.phys().frame_of(slab.as_ptr().cast()));
    }

    /// Gives all empty slabs back; returns how many.
    pub(crate) fn reclaim(&self, uvm: &Uvm) -> usize {
        for magazine in self.magazines.iter() {
            let rounds = core::mem::take(&mut *magazine.0.lock());
            self.put_back(uvm, &rounds);
        }
        let empty = {
            let mut inner = self.inner.lock();
            inner.pages -= inner.empty.len();
            core::mem::take(&mut inner.empty)
        };
        let pages = empty.len();
        for slab in empty {
            Self::release_slab(uvm, slab);
        }
        pages
    }

    pub(crate) fn in_use(&self) -> usize {
        let cached: usize = self.magazines.iter().map(|m| m.0.lock().len()).sum();
        self.inner.lock().out - cached
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        // A test that failed has said so, and may well leave objects behind.
        #[cfg(any(test, feature = "testing"))]
        if std::thread::panicking() {
            return;
        }
        // Objects point into slabs, and slabs here and to the `Uvm`.
        assert_eq!(
            self.in_use(),
            0,
            "pool {} dropped with objects in use",
            self.name
        );
    }
}

impl Inner {
    /// Takes an object from a partly used slab, else from an empty one.
    fn take(&mut self) -> Option<NonNull<u8>> {
        if self.partial.is_none() {
            let slab = self.empty.pop()?;
            self.insert(slab);
        }
        let slab = self.partial?;
        let links = Header::links(slab);
        // SAFETY: listed slabs are alive and, under the lock of the slabs, ours; a listed slab has
        // a free object.
        unsafe {
            let object = (*links).free;
            (*links).free = (*object).next;
            (*links).used += 1;
            if (*links).free.is_null() {
                self.remove(slab);
            }
            self.out += 1;
            NonNull::new(object.cast())
        }
    }

    /// Gives an object back to its slab. Returns the slab, on no list any more, if that is empty
    /// now and enough others are.
    fn put(&mut self, object: NonNull<u8>, capacity: usize) -> Option<NonNull<Header>> {
        let slab = Header::of(object);
        let links = Header::links(slab);
        // SAFETY: the object's slab is alive and under the lock ours; the object is free memory.
        unsafe {
            object.cast::<FreeObject>().write(FreeObject {
                next: (*links).free,
            });
            (*links).free = object.as_ptr().cast();
            self.out -= 1;
            if (*links).used == capacity {
                self.insert(slab);
            }
            (*links).used -= 1;
            if (*links).used != 0 {
                return None;
            }
        }
        self.remove(slab);
        let full = self.empty.try_push(slab);
        self.pages -= usize::from(full.is_err());
        full.err().map(|e| e.element())
    }

    fn insert(&mut self, slab: NonNull<Header>) {
        // SAFETY: as in `take`.
        unsafe {
            (*Header::links(slab)).prev = None;
            (*Header::links(slab)).next = self.partial;
            if let Some(next) = self.partial {
                (*Header::links(next)).prev = Some(slab);
            }
        }
        self.partial = Some(slab);
    }

    fn remove(&mut self, slab: NonNull<Header>) {
        // SAFETY: as in `take`; `slab` is listed.
        unsafe {
            let (next, prev) = ((*Header::links(slab)).next, (*Header::links(slab)).prev);
            match prev {
                Some(prev) => (*Header::links(prev)).next = next,
                None => self.partial = next,
            }
            if let Some(next) = next {
                (*Header::links(next)).prev = prev;
            }
        }
    }
}
