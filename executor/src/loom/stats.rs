//! The label of what a task awaits: written while others read.

use std::sync::Arc;

use loom::thread;

use super::model_bounded;
use crate::task::Awaiting;

#[test]
fn a_label_is_whole_or_absent() {
    model_bounded(3, || {
        let label = Arc::new(Awaiting::default());
        label.set("a");
        let reader = thread::spawn({
            let label = label.clone();
            move || {
                // A torn one may not even be text, so a failure does not print it.
                assert!(matches!(label.get(), None | Some("a" | "bc")));
            }
        });
        label.clear();
        label.set("bc");
        reader.join().unwrap();
    });
}
