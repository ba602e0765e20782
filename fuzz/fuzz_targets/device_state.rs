#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("device_state", &drover_fuzz::device_state::seeds()),
    |data: &[u8]| drover_fuzz::device_state::run(data)
);
