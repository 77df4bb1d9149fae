//! Plugin `example`. `python build_example.py` compiles it and puts example.toml into the module.
//! A function gets whole columns: see "Plugins in WebAssembly" in Epochal's docs.
use std::slice;

/// A column of Arrow data: an argument, or the room for a result.
#[repr(C)]
pub struct Column {
    length: i32,         // rows
    validity: *mut u8,   // a bit for each row, 1 for a value; null: no row is null
    data: *mut u8,       // the values, or the bytes of all texts
    offsets: *mut i32,   // of length + 1 texts; null for types of a fixed size
    capacity: u32,       // bytes at data
}

/// For which version of the interface it is made; never called.
#[no_mangle]
pub extern "C" fn epochal_interface_1() {}

/// greet(name: utf8) -> utf8
///
/// # Safety
/// The host calls it, with an argument and room for as many results.
#[no_mangle]
pub unsafe extern "C" fn greet(arguments: *const Column, result: *mut Column) -> i32 {
    let (name, result) = (&*arguments, &mut *result);
    let ends = slice::from_raw_parts(name.offsets, name.length as usize + 1);
    let names = slice::from_raw_parts(name.data, ends[name.length as usize] as usize);
    let mut texts = Vec::new();
    let mut made = vec![0];
    for row in ends.windows(2) {
        texts.extend_from_slice(b"Hello, ");
        texts.extend_from_slice(&names[row[0] as usize..row[1] as usize]);
        texts.extend_from_slice(b"!");
        made.push(texts.len() as i32);
    }
    // With too little room, ask for more, and be called again.
    if texts.len() > result.capacity as usize {
        return texts.len() as i32;
    }
    slice::from_raw_parts_mut(result.data, texts.len()).copy_from_slice(&texts);
    slice::from_raw_parts_mut(result.offsets, made.len()).copy_from_slice(&made);
    0
}
