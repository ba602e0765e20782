#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("control_frames", &drover_fuzz::control_frames::seeds()),
    |data: &[u8]| drover_fuzz::control_frames::run(data)
);
