# cmake -DOUT=file.c -DRUNTIME=a.h -DMATHF=b.h -P embed_text.cmake: both texts as
# the arrays of c_header_text.h, emitted as bytes (string literals have a length
# limit in ISO C).
set(code "/* Made by embed_text.cmake. */\n#include \"tools/c_header_text.h\"\n\n")
foreach(name RUNTIME MATHF)
  string(TOLOWER ${name} lower)
  file(READ ${${name}} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND code "const char bn_c_header_${lower}[] = {${bytes}0};\n")
endforeach()
file(WRITE ${OUT} "${code}")
