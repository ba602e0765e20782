#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("stored_state", &drover_fuzz::stored_state::seeds()),
    |data: &[u8]| drover_fuzz::stored_state::run(data)
);
