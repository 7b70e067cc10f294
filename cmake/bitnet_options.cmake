# Build options and the flags every target gets.
option(BITNET_OPENCL "Build the OpenCL backend" ON)
option(BITNET_TESTS "Build the tests" ON)
option(BITNET_BENCHES "Build the benches" ON)
option(BITNET_WERROR "Treat compiler warnings as errors" OFF)
set(BITNET_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)  # POSIX and GNU names: -std=gnu11
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# Numerics (docs/numerics.md): no fast-math, a fused multiply-add only where
# the source says fmaf.
add_compile_options(-ffp-contract=off -fno-math-errno -fno-trapping-math)
add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wdouble-promotion)
if(BITNET_WERROR)
  add_compile_options(-Werror)
endif()

# Hardening (SECURITY.md; tests/hostile checks the programs): position
# independent executables, read-only relocations, guarded stacks, checked libc
# calls where there is optimization to find sizes with.
include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
if(NOT BITNET_SANITIZE)
  foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection)
    string(MAKE_C_IDENTIFIER "BITNET_HAS${flag}" has)
    check_c_compiler_flag(${flag} ${has})
    if(${has})
      add_compile_options(${flag})
    endif()
  endforeach()
  add_compile_options($<$<CONFIG:Release>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=3>)
  add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack)
endif()

if(BITNET_SANITIZE)
  add_compile_options(-fsanitize=${BITNET_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BITNET_SANITIZE})
endif()
