#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("messages", &drover_fuzz::messages::seeds()),
    |data: &[u8]| drover_fuzz::messages::run(data)
);
