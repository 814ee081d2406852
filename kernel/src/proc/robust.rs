//! What a thread owes others at its end: the word that says that it is gone, and the locks that it holds in memory.
//!
//! A thread tells the kernel where its list of locks begins (`set_robust_list`); each lock that still names it is marked as
//! its owner's death, and one who waits for it is woken. The list is the program's: its length is bounded, and bad addresses end it.
//!
//! In a process that ends, memory that is not there is left alone rather than waited for (rule 10 of awaiting); in one that goes on it is brought in,
//! since others wait for what is to be written.

use super::body::Current;
use super::machine::{self, Fault};
use uvm::addr::VirtAddr;
use uvm::prot::Access;

/// Most locks that are looked at, as on Linux.
const MOST: usize = 2048;
/// In a lock's word: its owner, that somebody waits, that its owner died.
const OWNER: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
/// In a pointer of the list: the lock inherits priority. There are no priorities.
const INHERITS: u64 = 1;

/// There is no such memory, or it is not worth waiting for.
struct Gone;

/// Lets go of all that others may wait for. Awaits page-ins, unless the process ends.
pub(super) async fn let_go(current: &mut Current) {
    let head = current.robust_list();
    if head != 0 {
        // As far as the list can be read.
        let _ = locks(current, head).await;
    }
    let word = current.clear_tid();
    // A process of one thread has nobody to tell, unless it shares its memory.
    if word != 0 && word.is_multiple_of(4) && store(current, word, 0).await.is_ok() {
        wake(current, word);
    }
}

async fn locks(current: &Current, head: u64) -> Result<(), Gone> {
    let first = load_u64(current, head).await?;
    let offset = load_u64(current, head.wrapping_add(8)).await?;
    let pending = load_u64(current, head.wrapping_add(16)).await? & !INHERITS;
    let mut at = first & !INHERITS;
    for _ in 0..MOST {
        if at == head {
            break;
        }
        // The next one first: the lock may be gone once it is free.
        let next = load_u64(current, at).await;
        if at != pending {
            owner_died(current, at.wrapping_add(offset)).await?;
        }
        at = next? & !INHERITS;
    }
    // One that it was about to take or to give back.
    if pending != 0 {
        owner_died(current, pending.wrapping_add(offset)).await?;
    }
    Ok(())
}

/// Marks a lock, if the thread holds it.
async fn owner_died(current: &Current, word: u64) -> Result<(), Gone> {
    if !word.is_multiple_of(4) {
        return Err(Gone);
    }
    loop {
        let found = attempt(current, Access::Read, || machine::load_user_u32(word)).await?;
        if found & OWNER != current.lwp().tid().0 {
            return Ok(());
        }
        let dead = (found & WAITERS) | OWNER_DIED;
        let swap = || machine::compare_exchange_user_u32(word, found, dead);
        if attempt(current, Access::Write, swap).await? == found {
            if found & WAITERS != 0 {
                wake(current, word);
            }
            return Ok(());
        }
    }
}

fn wake(current: &Current, at: u64) {
    if let Ok(va) = VirtAddr::try_new(at) {
        let (space, futexes) = (current.space(), current.system().futexes());
        // Who waits may have said that the word is its space's own, or not.
        for word in [space.own_word(va), space.shared_word(va)] {
            if futexes.wake(word, 1, u32::MAX) > 0 {
                break;
            }
        }
    }
}

async fn store(current: &Current, at: u64, value: u32) -> Result<(), Gone> {
    let write = || machine::copyout(at, &value.to_le_bytes());
    attempt(current, Access::Write, write).await
}

async fn load_u64(current: &Current, at: u64) -> Result<u64, Gone> {
    let mut bytes = [0; 8];
    let read = || machine::copyin(&mut bytes, at);
    attempt(current, Access::Read, read).await?;
    Ok(u64::from_le_bytes(bytes))
}

/// Repeats an access until it succeeds, bringing in what it misses.
async fn attempt<T>(
    current: &Current,
    access: Access,
    mut f: impl FnMut() -> Result<T, Fault>,
) -> Result<T, Gone> {
    loop {
        let stop = match f() {
            Ok(value) => return Ok(value),
            Err(stop) => stop,
        };
        if current.process().threads().ends().is_some() {
            return Err(Gone);
        }
        let va = VirtAddr::try_new(stop.va).map_err(|_| Gone)?;
        current.space().fault(va, access).await.map_err(|_| Gone)?;
    }
}
