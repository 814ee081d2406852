//! LOCAL
pub use executor::*;
pub use executor::sync::*;
