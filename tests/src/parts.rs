//! Work whose CPU time is in three functions, 70, 20 and 10 parts in a hundred. Two servers have it: one without frame
//! pointers and one with.

use std::hint::black_box;

/// So many steps of a hundredth of the work; the third function is `slow` times slower than it should be.
#[inline(never)]
pub fn work(steps: u64, slow: u64) {
    black_box(seventy(70 * steps));
    black_box(twenty(20 * steps));
    black_box(ten(10 * steps * slow));
}

#[inline(never)]
fn seventy(steps: u64) -> u64 {
    (0..steps).fold(1, step)
}

#[inline(never)]
fn twenty(steps: u64) -> u64 {
    (0..steps).fold(2, step)
}

#[inline(never)]
fn ten(steps: u64) -> u64 {
    (0..steps).fold(3, step)
}

fn step(state: u64, number: u64) -> u64 {
    black_box(state.wrapping_mul(31).wrapping_add(number))
}
