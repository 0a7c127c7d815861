/*
 * BART: encoder-decoder, a LayerNorm behind every residual, biases everywhere, learned positions that begin at row 2, a norm
 * behind the embeddings, a tied head with a constant bias.
 *
 * Source: Lewis et al. 2020; Hugging Face BartConfig, BartForConditionalGeneration, BartLearnedPositionalEmbedding. config.json
 * decides every number; mBART's variants of the same code (normalize_before, ...) are refused.
 */
#include "family.h"

#include <math.h>
#include <stdio.h>

enum { POSITION_OFFSET = 2 };

static pac_err read_block(const hf_config *c, const char *heads, const char *inner, pac_block_cfg *b)
{
    PAC_TRY(pac_hf_int(c, "d_model", 1, PAC_MAX_WIDTH, 0, &b->D));
    PAC_TRY(pac_hf_int(c, inner, 1, PAC_MAX_WIDTH, 0, &b->F));
    PAC_TRY(pac_family_heads(c, heads, b));
    b->norm = PAC_NORM_LAYER;
    b->post_norm = b->biases = true;
    b->eps = 1e-5f; /* torch.nn.LayerNorm's; no key of the configuration */
    return pac_family_act(c, "activation_function", &b->act);
}

static pac_err read_tokens(const hf_config *c, pac_model_desc *d)
{
    PAC_TRY(pac_hf_int(c, "vocab_size", 3, PAC_MAX_VOCAB, 0, &d->vocab));
    PAC_TRY(pac_hf_token(c, "pad_token_id", d->vocab, 1, &d->pad_id));
    PAC_TRY(pac_hf_token(c, "eos_token_id", d->vocab, 2, &d->eos_id));
    return pac_hf_token(c, "decoder_start_token_id", d->vocab, d->eos_id, &d->start_id);
}

static pac_err refuse_variants(const hf_config *c)
{
    PAC_TRY(pac_family_only(c, "is_encoder_decoder", true));
    PAC_TRY(pac_family_only(c, "normalize_before", false));
    PAC_TRY(pac_family_only(c, "add_final_layer_norm", false));
    PAC_TRY(pac_family_only(c, "normalize_embedding", true));
    return pac_family_only(c, "static_position_embeddings", false);
}

static pac_err read_config(const hf_config *c, pac_model_desc *d)
{
    pac_block_cfg *enc = &d->block[PAC_ENC], *dec = &d->block[PAC_DEC];
    bool scaled;
    double std;
    PAC_TRY(refuse_variants(c));
    PAC_TRY(read_tokens(c, d));
    PAC_TRY(pac_hf_int(c, "encoder_layers", 1, PAC_MAX_BLOCKS - 1, 0, &d->layers[PAC_ENC]));
    PAC_TRY(pac_hf_int(c, "decoder_layers", 1, PAC_MAX_BLOCKS - 1, 0, &d->layers[PAC_DEC]));
    PAC_TRY(read_block(c, "encoder_attention_heads", "encoder_ffn_dim", enc));
    PAC_TRY(read_block(c, "decoder_attention_heads", "decoder_ffn_dim", dec));
    dec->cross = dec->causal = true;
    PAC_TRY(pac_hf_int(c, "max_position_embeddings", 1, PAC_MAX_WIDTH, 1024, &d->max_positions));
    PAC_TRY(pac_hf_bool(c, "scale_embedding", false, &scaled));
    PAC_TRY(pac_hf_bool(c, "tie_word_embeddings", true, &d->tied));
    PAC_TRY(pac_hf_number(c, "init_std", 0.02, &std));
    d->position_offset = POSITION_OFFSET;
    d->embed_scale = scaled ? sqrtf((float)enc->D) : 1.0f;
    d->init_std = (float)std;
    d->embed_norm = d->pad_frozen = d->lm = true;
    return PAC_OK;
}

#define B(field) offsetof(pac_block_weights, field)
#define R(field) offsetof(pac_riders, field)
#define BLOCK_LINEAR(stack, prefix, name, field, out, in)                                                                      \
    {PAC_T_BLOCK, stack, PAC_WHEN_ALWAYS, prefix ".layers.#." name ".weight", B(field.w), out in, "~", 0},                     \
    {                                                                                                                          \
        PAC_T_BLOCK, stack, PAC_WHEN_ALWAYS, prefix ".layers.#." name ".bias", B(field.b), out, "=0", 0                        \
    }
#define NORM(scope, stack, name, weight, bias)                                                                                 \
    {scope, stack, PAC_WHEN_ALWAYS, name ".weight", weight, "D", "=1", 0},                                                     \
    {                                                                                                                          \
        scope, stack, PAC_WHEN_ALWAYS, name ".bias", bias, "D", "=0", 0                                                        \
    }
#define BLOCK_NORM(stack, prefix, name, field) NORM(PAC_T_BLOCK, stack, prefix ".layers.#." name, B(field.w), B(field.b))
#define ATTENTION(stack, prefix, name, field)                                                                                  \
    BLOCK_LINEAR(stack, prefix, name ".q_proj", field.q, "I", "D"),                                                            \
        BLOCK_LINEAR(stack, prefix, name ".k_proj", field.k, "I", "D"),                                                        \
        BLOCK_LINEAR(stack, prefix, name ".v_proj", field.v, "I", "D"),                                                        \
        BLOCK_LINEAR(stack, prefix, name ".out_proj", field.o, "D", "I"),                                                      \
        BLOCK_NORM(stack, prefix, name "_layer_norm", field.norm)
#define FEED_FORWARD(stack, prefix)                                                                                            \
    BLOCK_LINEAR(stack, prefix, "fc1", wi, "F", "D"), BLOCK_LINEAR(stack, prefix, "fc2", wo, "D", "F"),                        \
        BLOCK_NORM(stack, prefix, "final_layer_norm", ff_norm)
#define EMBEDDINGS(stack, prefix)                                                                                              \
    {PAC_T_FIRST, stack, PAC_WHEN_ALWAYS, SHARED, R(embed.w), "VD", "~", 0},                                                   \
        {PAC_T_FIRST, stack, PAC_WHEN_ALWAYS, prefix ".embed_positions.weight", R(positions.w), "PD", "~", 0},                 \
        NORM(PAC_T_FIRST, stack, prefix ".layernorm_embedding", R(embed_norm.w), R(embed_norm.b))
#define SHARED "shared.weight|encoder.embed_tokens.weight|decoder.embed_tokens.weight"

static const pac_tensor_rule rules[] = {
    EMBEDDINGS(PAC_ENC, "encoder"),
    ATTENTION(PAC_ENC, "encoder", "self_attn", self),
    FEED_FORWARD(PAC_ENC, "encoder"),
    EMBEDDINGS(PAC_DEC, "decoder"),
    ATTENTION(PAC_DEC, "decoder", "self_attn", self),
    ATTENTION(PAC_DEC, "decoder", "encoder_attn", cross),
    FEED_FORWARD(PAC_DEC, "decoder"),
    {PAC_T_HEAD, PAC_DEC, PAC_WHEN_TIED, SHARED, R(head.w), "VD", "~", 0},
    {PAC_T_HEAD, PAC_DEC, PAC_WHEN_UNTIED, "lm_head.weight", R(head.w), "VD", "~", PAC_T_BARE},
    {PAC_T_HEAD, PAC_DEC, PAC_WHEN_ALWAYS, "final_logits_bias", R(head.b), "1V", "=0",
     PAC_T_BARE | PAC_T_OPTIONAL | PAC_T_BUFFER},
    {.names = NULL},
};

/* BartForConditionalGeneration's files, BartModel's. */
static const char *const prefixes[] = {"model.", "", NULL};

/* ---- shapes by name ---- */

static const char *const shape_names[] = {"bart-base", "bart-large", NULL};

static const struct {
    int d_model, ffn, layers, heads;
} shapes[] = {{768, 3072, 6, 12}, {1024, 4096, 12, 16}};

static int shape_config(int i, char *text, size_t size)
{
    return snprintf(text, size,
                    "{\n  \"architectures\": [\"BartForConditionalGeneration\"],\n  \"model_type\": \"bart\",\n"
                    "  \"vocab_size\": 50265,\n  \"d_model\": %d,\n  \"encoder_layers\": %d,\n  \"decoder_layers\": %d,\n"
                    "  \"encoder_attention_heads\": %d,\n  \"decoder_attention_heads\": %d,\n  \"encoder_ffn_dim\": %d,\n"
                    "  \"decoder_ffn_dim\": %d,\n  \"activation_function\": \"gelu\",\n  \"max_position_embeddings\": 1024,\n"
                    "  \"scale_embedding\": false,\n  \"init_std\": 0.02,\n  \"dropout\": 0.1,\n"
                    "  \"is_encoder_decoder\": true,\n  \"bos_token_id\": 0,\n  \"pad_token_id\": 1,\n  \"eos_token_id\": 2,\n"
                    "  \"decoder_start_token_id\": 2,\n  \"forced_eos_token_id\": 2\n}\n",
                    shapes[i].d_model, shapes[i].layers, shapes[i].layers, shapes[i].heads, shapes[i].heads, shapes[i].ffn,
                    shapes[i].ffn);
}

const pac_family pac_family_bart = {.name = "bart",
                                    .prefixes = prefixes,
                                    .rules = rules,
                                    .read_config = read_config,
                                    .shapes = shape_names,
                                    .shape_config = shape_config};
