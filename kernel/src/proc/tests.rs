//! Tests of processes as a whole.

#[test]
fn a_thread_fits_its_uarea() {
    let spare = super::body::spare();
    std::println!("{spare} bytes of a u-area to spare");
    assert!(spare >= 512, "the LWP's future has grown: box its largest arm ({spare} bytes left)");
}
