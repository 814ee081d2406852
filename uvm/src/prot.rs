//! Protections of mappings and kinds of access. Plain values, no state.

use bitflags::bitflags;

bitflags! {
    /// What a mapping allows. Empty: nothing at all.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// Loads.
        const READ = 1;
        /// Stores. On x86 a page that can be written can be read.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

impl Prot {
    /// Loads and stores.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Everything.
    pub const ALL: Self = Self::RW.union(Self::EXEC);

    /// Whether an access of this kind is allowed.
    #[must_use]
    pub const fn allows(self, access: Access) -> bool {
        self.contains(access.needs())
    }
}

/// What an instruction tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Load.
    Read,
    /// Store, or load and store.
    Write,
    /// Instruction fetch.
    Exec,
}

impl Access {
    /// The protection that allows it.
    #[must_use]
    pub const fn needs(self) -> Prot {
        match self {
            Self::Read => Prot::READ,
            Self::Write => Prot::WRITE,
            Self::Exec => Prot::EXEC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows() {
        assert!(Prot::RW.allows(Access::Write));
        assert!(!Prot::RW.allows(Access::Exec));
        assert!(!Prot::empty().allows(Access::Read));
        assert!(Prot::ALL.allows(Access::Exec));
    }
}
