//! The direction from one place to another, in degrees from north. By hand:
//!   python -m ziglang build-exe -target wasm32-freestanding -O ReleaseFast -fno-entry -rdynamic \
//!     -femit-bin=bearing.wasm bearing.zig
const math = @import("std").math;

/// A column of numbers: an argument, or the room for a result.
const Column = extern struct {
    length: i32,
    validity: ?[*]u8,
    data: [*]f64,
    offsets: ?[*]i32,
    capacity: u32,
};

/// For which version of the interface it is made; never called.
export fn epochal_interface_1() void {}

/// bearing(lat1, lon1, lat2, lon2: float64) -> float64
export fn bearing(arguments: [*]const Column, result: *Column) i32 {
    for (0..@intCast(result.length)) |row| {
        const from = math.degreesToRadians(arguments[0].data[row]);
        const to = math.degreesToRadians(arguments[2].data[row]);
        const east = math.degreesToRadians(arguments[3].data[row] - arguments[1].data[row]);
        const y = @sin(east) * @cos(to);
        const x = @cos(from) * @sin(to) - @sin(from) * @cos(to) * @cos(east);
        result.data[row] = @mod(math.radiansToDegrees(math.atan2(y, x)), 360);
    }
    return 0;
}
