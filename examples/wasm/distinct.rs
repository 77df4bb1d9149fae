//! How many different texts there are: an aggregate whose state has any length.
//! `epochal new --wasm rust` writes a plugin with its build; by hand:
//!   rustc --target wasm32-unknown-unknown --crate-type cdylib --edition 2021 -C opt-level=3 \
//!     -C panic=abort -C strip=debuginfo -o distinct.wasm distinct.rs
use std::collections::BTreeSet;
use std::slice;

/// A column of Arrow data: an argument, or the room for a result.
#[repr(C)]
pub struct Column {
    length: i32,       // rows
    validity: *mut u8, // a bit for each row, 1 for a value; null: no row is null
    data: *mut u8,     // the values, or the bytes of all texts
    offsets: *mut i32, // of length + 1 texts; null for types of a fixed size
    capacity: u32,     // bytes at data
}

impl Column {
    unsafe fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let ends = slice::from_raw_parts(self.offsets, self.length as usize + 1);
        let all = slice::from_raw_parts(self.data, self.capacity as usize);
        ends.windows(2).map(move |row| &all[row[0] as usize..row[1] as usize])
    }
}

/// The state: a hash of each text, in order, eight bytes each (FNV-1a: the same in every instance).
type Hashes = BTreeSet<u64>;

fn hash(text: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    text.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

unsafe fn read(state: &Column) -> Hashes {
    let bytes = state.texts().next().unwrap_or_default();
    bytes.chunks_exact(8).map(|each| u64::from_le_bytes(each.try_into().unwrap())).collect()
}

/// Writes the state into the result, or asks for room.
unsafe fn write(hashes: &Hashes, result: *mut Column) -> i32 {
    let (bytes, result) = (hashes.len() * 8, &mut *result);
    if bytes > result.capacity as usize {
        return bytes as i32;
    }
    let room = slice::from_raw_parts_mut(result.data, bytes);
    for (place, each) in room.chunks_exact_mut(8).zip(hashes) {
        place.copy_from_slice(&each.to_le_bytes());
    }
    *result.offsets = 0;
    *result.offsets.add(1) = bytes as i32;
    0
}

#[no_mangle]
pub extern "C" fn epochal_interface_1() {}

#[no_mangle]
pub unsafe extern "C" fn distinct_update(arguments: *const Column, result: *mut Column) -> i32 {
    let mut hashes = read(&*arguments);
    hashes.extend((*arguments.add(1)).texts().map(hash));
    write(&hashes, result)
}

#[no_mangle]
pub unsafe extern "C" fn distinct_merge(arguments: *const Column, result: *mut Column) -> i32 {
    let mut hashes = read(&*arguments);
    hashes.extend(read(&*arguments.add(1)));
    write(&hashes, result)
}

#[no_mangle]
pub unsafe extern "C" fn distinct_evaluate(arguments: *const Column, result: *mut Column) -> i32 {
    *((*result).data as *mut i64) = read(&*arguments).len() as i64;
    0
}
