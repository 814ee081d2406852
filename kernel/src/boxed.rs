//! Boxes that say when there is no memory for them, which `Box::new` does not.

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;

/// Puts `value` into a block of its own.
///
/// # Errors
/// `value`, if there is no memory for the block.
pub fn try_box<T>(value: T) -> Result<Box<T>, T> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc(layout) }.cast::<T>();
    if block.is_null() {
        return Err(value);
    }
    // SAFETY: a fresh block of that layout from the global allocator, initialised here, and the box's alone from now on.
    Ok(unsafe {
        block.write(value);
        Box::from_raw(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_boxed_is_there() {
        assert_eq!(try_box([7_u64; 9]), Ok(Box::new([7; 9])));
        assert_eq!(try_box(()), Ok(Box::new(())));
    }
}
