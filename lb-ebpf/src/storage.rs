//! Socket storage that the kernel copies from a listener to each connection made by it.
//!
//! aya's own `SkStorage` has neither the flag nor a way in for `sockops`.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    helpers::bpf_sk_storage_get,
    programs::SockOpsContext,
};

/// What the loader reads of a map, in the order of BTF-defined maps.
#[repr(C)]
pub struct ClonedStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are never followed; the loader puts a map in the place of the value.
unsafe impl<T> Sync for ClonedStorage<T> {}

impl<T> ClonedStorage<T> {
    /// The definition that the loader reads.
    pub const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }
}

impl<T: Copy> ClonedStorage<T> {
    /// The value of the connection this call is about, if it has one.
    #[inline(always)]
    pub fn get(&self, ctx: &SockOpsContext) -> Option<T> {
        // SAFETY: a field of the context, valid for the run.
        let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
        if socket.is_null() {
            return None;
        }
        let map = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the map is the program's own, and the socket the context's.
        let value = unsafe { bpf_sk_storage_get(map, socket.cast(), ptr::null_mut(), 0) };
        // SAFETY: null, or a value of the map's type.
        unsafe { value.cast::<T>().as_ref() }.copied()
    }
}
