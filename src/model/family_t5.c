/*
 * T5: v1.0 (relu, tied head with scale d^-0.5) and v1.1 / flan (gated gelu, own head, no scale).
 *
 * Source: Raffel et al. 2020; Hugging Face T5Config, T5ForConditionalGeneration and T5PreTrainedModel._init_weights. Configs
 * written by transformers 5 always say tie_word_embeddings: true and tell the two apart by scale_decoder_outputs.
 */
#include "family.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* feed_forward_proj -> activation; dense_act_fn and is_gated_act repeat it where they are given. */
static const struct {
    pac_act act;
    bool gated;
    const char *dense_act_fn;
} projections[] = {{PAC_ACT_RELU, false, "relu"}, {PAC_ACT_GELU_NEW, true, "gelu_new"}};

static pac_err read_feed_forward(const hf_config *c, pac_block_cfg *b)
{
    const char *const names[] = {"relu", "gated-gelu", NULL};
    int i, same;
    bool gated;
    PAC_TRY(pac_hf_choice(c, "feed_forward_proj", names, &i));
    const char *const act[] = {projections[i].dense_act_fn, NULL};
    PAC_TRY(pac_hf_choice(c, "dense_act_fn", act, &same));
    PAC_TRY(pac_hf_bool(c, "is_gated_act", projections[i].gated, &gated));
    PAC_CHECK(gated == projections[i].gated, PAC_EDATA, "%s: is_gated_act contradicts feed_forward_proj \"%s\"", c->path,
              names[i]);
    b->act = projections[i].act;
    b->gated = gated;
    return PAC_OK;
}

static pac_err read_block(const hf_config *c, pac_block_cfg *b)
{
    double eps;
    PAC_TRY(pac_hf_int(c, "d_model", 1, PAC_MAX_WIDTH, 0, &b->D));
    PAC_TRY(pac_hf_int(c, "d_kv", 1, PAC_MAX_WIDTH, 0, &b->K));
    PAC_TRY(pac_hf_int(c, "num_heads", 1, PAC_MAX_WIDTH, 0, &b->H));
    PAC_TRY(pac_hf_int(c, "d_ff", 1, PAC_MAX_WIDTH, 0, &b->F));
    PAC_TRY(pac_hf_int(c, "relative_attention_num_buckets", 4, 65536, 32, &b->buckets));
    PAC_TRY(pac_hf_int(c, "relative_attention_max_distance", 1, INT32_MAX, 128, &b->max_distance));
    PAC_TRY(pac_hf_number(c, "layer_norm_epsilon", 1e-6, &eps));
    PAC_CHECK(b->H * b->K <= PAC_MAX_WIDTH, PAC_EDATA, "%s: num_heads x d_kv is %lld; at most %d are supported", c->path,
              (long long)(b->H * b->K), PAC_MAX_WIDTH);
    PAC_CHECK(b->max_distance > b->buckets / 2, PAC_EDATA,
              "%s: relative_attention_max_distance must be above half of relative_attention_num_buckets", c->path);
    b->eps = (float)eps;
    b->norm = PAC_NORM_RMS;
    b->inner_dropout = true;
    b->scale = 1.0f;
    return read_feed_forward(c, b);
}

static pac_err read_tokens(const hf_config *c, pac_model_desc *d)
{
    PAC_TRY(pac_hf_int(c, "vocab_size", 2, PAC_MAX_VOCAB, 0, &d->vocab));
    PAC_TRY(pac_hf_token(c, "pad_token_id", d->vocab, 0, &d->pad_id));
    PAC_TRY(pac_hf_token(c, "eos_token_id", d->vocab, 1, &d->eos_id));
    return pac_hf_token(c, "decoder_start_token_id", d->vocab, d->pad_id, &d->start_id);
}

static pac_err read_config(const hf_config *c, pac_model_desc *d)
{
    pac_block_cfg *enc = &d->block[PAC_ENC], *dec = &d->block[PAC_DEC];
    bool both, tied;
    PAC_TRY(pac_hf_bool(c, "is_encoder_decoder", true, &both));
    PAC_CHECK(both, PAC_EDATA, "%s: is_encoder_decoder is false; a T5 needs both stacks here", c->path);
    PAC_TRY(read_tokens(c, d));
    PAC_TRY(pac_hf_int(c, "num_layers", 1, PAC_MAX_BLOCKS - 1, 0, &d->layers[PAC_ENC]));
    PAC_TRY(pac_hf_int(c, "num_decoder_layers", 1, PAC_MAX_BLOCKS - 1, d->layers[PAC_ENC], &d->layers[PAC_DEC]));
    PAC_TRY(read_block(c, enc));
    *dec = *enc;
    dec->cross = dec->causal = true;
    PAC_TRY(pac_hf_bool(c, "tie_word_embeddings", true, &tied));
    PAC_TRY(pac_hf_bool(c, "scale_decoder_outputs", tied, &d->tied));
    d->head_scale = d->tied ? (float)(1.0 / sqrt((double)enc->D)) : 1.0f;
    d->final_norm[PAC_ENC] = d->final_norm[PAC_DEC] = d->lm = true;
    return PAC_OK;
}

#define B(field) offsetof(pac_block_weights, field)
#define R(field) offsetof(pac_riders, field)
#define BLOCK(stack, when, name, field, dims, values)                                                                          \
    {                                                                                                                          \
        PAC_T_BLOCK, stack, when, name, B(field), dims, values, 0                                                              \
    }
#define ENC(name, field, dims, values)                                                                                         \
    BLOCK(PAC_ENC, PAC_WHEN_ALWAYS, "encoder.block.#.layer." name ".weight", field, dims, values)
#define DEC(name, field, dims, values)                                                                                         \
    BLOCK(PAC_DEC, PAC_WHEN_ALWAYS, "decoder.block.#.layer." name ".weight", field, dims, values)
#define ENC_IF(when, name, field, dims, values)                                                                                \
    BLOCK(PAC_ENC, when, "encoder.block.#.layer." name ".weight", field, dims, values)
#define DEC_IF(when, name, field, dims, values)                                                                                \
    BLOCK(PAC_DEC, when, "decoder.block.#.layer." name ".weight", field, dims, values)
#define RIDER(scope, stack, when, name, field, dims, values)                                                                   \
    {                                                                                                                          \
        scope, stack, when, name, R(field), dims, values, 0                                                                    \
    }
#define TABLE(stack) stack ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"
#define SHARED       "shared.weight|encoder.embed_tokens.weight|decoder.embed_tokens.weight"

static const pac_tensor_rule rules[] = {
    RIDER(PAC_T_FIRST, PAC_ENC, PAC_WHEN_ALWAYS, SHARED, embed.w, "VD", ""),
    RIDER(PAC_T_STACK, PAC_ENC, PAC_WHEN_ALWAYS, TABLE("encoder"), bias_table.w, "RH", "D"),
    ENC("0.layer_norm", self.norm.w, "D", "=1"),
    ENC("0.SelfAttention.q", self.q.w, "ID", "DK"),
    ENC("0.SelfAttention.k", self.k.w, "ID", "D"),
    ENC("0.SelfAttention.v", self.v.w, "ID", "D"),
    ENC("0.SelfAttention.o", self.o.w, "DI", "I"),
    ENC("1.layer_norm", ff_norm.w, "D", "=1"),
    ENC_IF(PAC_WHEN_PLAIN, "1.DenseReluDense.wi", wi.w, "FD", "D"),
    ENC_IF(PAC_WHEN_GATED, "1.DenseReluDense.wi_0", wi.w, "FD", "D"),
    ENC_IF(PAC_WHEN_GATED, "1.DenseReluDense.wi_1", wg.w, "FD", "D"),
    ENC("1.DenseReluDense.wo", wo.w, "DF", "F"),
    RIDER(PAC_T_LAST, PAC_ENC, PAC_WHEN_ALWAYS, "encoder.final_layer_norm.weight", final_norm.w, "D", "=1"),

    RIDER(PAC_T_FIRST, PAC_DEC, PAC_WHEN_ALWAYS, SHARED, embed.w, "VD", ""),
    RIDER(PAC_T_STACK, PAC_DEC, PAC_WHEN_ALWAYS, TABLE("decoder"), bias_table.w, "RH", "D"),
    DEC("0.layer_norm", self.norm.w, "D", "=1"),
    DEC("0.SelfAttention.q", self.q.w, "ID", "DK"),
    DEC("0.SelfAttention.k", self.k.w, "ID", "D"),
    DEC("0.SelfAttention.v", self.v.w, "ID", "D"),
    DEC("0.SelfAttention.o", self.o.w, "DI", "I"),
    DEC("1.layer_norm", cross.norm.w, "D", "=1"),
    DEC("1.EncDecAttention.q", cross.q.w, "ID", "DK"),
    DEC("1.EncDecAttention.k", cross.k.w, "ID", "D"),
    DEC("1.EncDecAttention.v", cross.v.w, "ID", "D"),
    DEC("1.EncDecAttention.o", cross.o.w, "DI", "I"),
    DEC("2.layer_norm", ff_norm.w, "D", "=1"),
    DEC_IF(PAC_WHEN_PLAIN, "2.DenseReluDense.wi", wi.w, "FD", "D"),
    DEC_IF(PAC_WHEN_GATED, "2.DenseReluDense.wi_0", wi.w, "FD", "D"),
    DEC_IF(PAC_WHEN_GATED, "2.DenseReluDense.wi_1", wg.w, "FD", "D"),
    DEC("2.DenseReluDense.wo", wo.w, "DF", "F"),
    RIDER(PAC_T_LAST, PAC_DEC, PAC_WHEN_ALWAYS, "decoder.final_layer_norm.weight", final_norm.w, "D", "=1"),
    RIDER(PAC_T_HEAD, PAC_DEC, PAC_WHEN_TIED, SHARED, head.w, "VD", ""),
    RIDER(PAC_T_HEAD, PAC_DEC, PAC_WHEN_UNTIED, "lm_head.weight", head.w, "VD", ""),
    {.names = NULL},
};

static const char *const prefixes[] = {"", NULL};

/* ---- shapes by name ---- */

static const char *const shape_names[] = {"t5-small",      "t5-base",      "t5-large", /* v1.0 */
                                          "flan-t5-small", "flan-t5-base", "flan-t5-large", NULL};

static const struct {
    int d_model, d_ff, layers, heads;
    bool v11;
} shapes[] = {
    {512, 2048, 6, 8, false}, {768, 3072, 12, 12, false}, {1024, 4096, 24, 16, false},
    {512, 1024, 8, 6, true},  {768, 2048, 12, 12, true},  {1024, 2816, 24, 16, true},
};

static int shape_config(int i, char *text, size_t size)
{
    return snprintf(text, size,
                    "{\n  \"architectures\": [\"T5ForConditionalGeneration\"],\n  \"model_type\": \"t5\",\n"
                    "  \"vocab_size\": 32128,\n  \"d_model\": %d,\n  \"d_kv\": 64,\n  \"d_ff\": %d,\n  \"num_layers\": %d,\n"
                    "  \"num_decoder_layers\": %d,\n  \"num_heads\": %d,\n  \"feed_forward_proj\": \"%s\",\n"
                    "  \"tie_word_embeddings\": %s,\n  \"relative_attention_num_buckets\": 32,\n"
                    "  \"relative_attention_max_distance\": 128,\n  \"layer_norm_epsilon\": 1e-06,\n"
                    "  \"dropout_rate\": 0.1,\n  \"initializer_factor\": 1.0,\n  \"is_encoder_decoder\": true,\n"
                    "  \"pad_token_id\": 0,\n  \"eos_token_id\": 1,\n  \"decoder_start_token_id\": 0\n}\n",
                    shapes[i].d_model, shapes[i].d_ff, shapes[i].layers, shapes[i].layers, shapes[i].heads,
                    shapes[i].v11 ? "gated-gelu" : "relu", shapes[i].v11 ? "false" : "true");
}

const pac_family pac_family_t5 = {.name = "t5",
                                  .prefixes = prefixes,
                                  .rules = rules,
                                  .read_config = read_config,
                                  .shapes = shape_names,
                                  .shape_config = shape_config};
