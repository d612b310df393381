//! ZIP containers of office documents, read within a [`Budget`](super::Budget).
