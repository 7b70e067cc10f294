# cmake -DOUT=file.c -DFILES=a.cl;b.cl -P embed.cmake: the texts as the table
# bn_ocl_sources of ocl_impl.h. Text is emitted as bytes: string literals have a
# length limit in ISO C, and quoting would have to be undone by a reader.
set(code "/* Made from kernels/ by embed.cmake. */\n#include \"opencl/ocl_impl.h\"\n\n")
set(table "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND code "static const char text_${name}[] = {${bytes}0};\n")
  string(APPEND table "    {\"${name}\", text_${name}},\n")
endforeach()
string(APPEND code "\nconst bn_ocl_source bn_ocl_sources[] = {\n${table}    {0, 0},\n};\n")
file(WRITE ${OUT} "${code}")
