/* shortfloat.h - float32 to and from the two 16-bit floats of files, by bits.
 *
 * to_* directions round to nearest even and keep NaN and infinity; float16
 * overflows to infinity.
 */
#ifndef BN_BASE_SHORTFLOAT_H
#define BN_BASE_SHORTFLOAT_H

#include <stdint.h>

uint16_t bn_f32_to_f16(float value);
float bn_f16_to_f32(uint16_t bits);
uint16_t bn_f32_to_bf16(float value);
float bn_bf16_to_f32(uint16_t bits);

#endif
