/* What logits.c prints, by an exported header. Compiled with the header's name
 * as HEADER, for a model called "model"; reads rows separated by commas. */
#define MODEL_IMPLEMENTATION
#include HEADER

#include <stdio.h>
#include <string.h>

int main(void)
{
    static model_work work;
    float input[MODEL_INPUTS], logits[MODEL_CLASSES];
    int label;
    for (;;) {
        for (int i = 0; i < MODEL_INPUTS; i++)
            if (scanf("%f,", &input[i]) != 1)
                return i != 0;
        if (scanf("%d", &label) != 1)
            return 1;
        const int32_t found = model_classify(&work, input, logits);
        for (int k = 0; k < MODEL_CLASSES; k++) {
            uint32_t bits;
            memcpy(&bits, &logits[k], sizeof bits);
            printf("%08lx ", (unsigned long)bits);
        }
        printf("%d\n", found == label);
    }
}
