//! What this kernel can do for hotlb.
