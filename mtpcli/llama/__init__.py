"""llama.cpp through its Python bindings: the only package that imports them."""
