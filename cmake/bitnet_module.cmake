# bitnet_module(NAME SOURCES a.c b.c USES lower modules LIBS external targets)
#
# An object library bn_NAME for one folder. USES names modules of lower layers;
# what they use comes along. A program links bitnet::all through
# bitnet_program(). Include paths start at src/ ("base/status.h").
function(bitnet_module name)
  cmake_parse_arguments(M "" "" "SOURCES;USES;LIBS" ${ARGN})
  add_library(bn_${name} OBJECT ${M_SOURCES})
  target_include_directories(bn_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  foreach(lower ${M_USES})
    target_include_directories(bn_${name} PUBLIC
      $<TARGET_PROPERTY:bn_${lower},INTERFACE_INCLUDE_DIRECTORIES>)
    if(NOT TARGET bn_${lower})
      message(FATAL_ERROR "module ${name} uses ${lower}, which is not a lower layer")
    endif()
  endforeach()
  target_link_libraries(bn_${name} PUBLIC ${M_LIBS})
  set_property(GLOBAL APPEND PROPERTY BITNET_MODULES bn_${name})
endfunction()

# One static library of all modules declared so far.
function(bitnet_library)
  if(TARGET bitnet)
    return()
  endif()
  get_property(modules GLOBAL PROPERTY BITNET_MODULES)
  add_library(bitnet STATIC)
  foreach(m ${modules})
    target_sources(bitnet PRIVATE $<TARGET_OBJECTS:${m}>)
    target_link_libraries(bitnet PUBLIC $<TARGET_PROPERTY:${m},INTERFACE_LINK_LIBRARIES>)
  endforeach()
  target_include_directories(bitnet PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  target_link_libraries(bitnet PUBLIC Threads::Threads m)
endfunction()

# bitnet_program(NAME main.c ...): an executable in build/bin.
function(bitnet_program name)
  bitnet_library()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE bitnet)
endfunction()
