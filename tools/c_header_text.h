/* c_header_text.h - sources of this project as text, to be copied into headers;
 * the build makes their definition (embed_text.cmake). */
#ifndef BN_TOOLS_C_HEADER_TEXT_H
#define BN_TOOLS_C_HEADER_TEXT_H

extern const char bn_c_header_runtime[]; /* c_header_runtime.h */
extern const char bn_c_header_mathf[];   /* src/base/mathf.h */

#endif
