/*
 * BERT: encoder only, a LayerNorm behind every residual, biases everywhere, positions and token types, a pooler that begins the
 * classification head. It has no language-model head here: masked-word prediction is no task of ours.
 *
 * Source: Devlin et al. 2019; Hugging Face BertConfig, BertModel, BertPooler. Checkpoints converted from TensorFlow call the
 * norms' values gamma and beta.
 */
#include "family.h"

#include <stdio.h>

static pac_err read_block(const hf_config *c, pac_block_cfg *b)
{
    double eps;
    PAC_TRY(pac_hf_int(c, "hidden_size", 1, PAC_MAX_WIDTH, 0, &b->D));
    PAC_TRY(pac_hf_int(c, "intermediate_size", 1, PAC_MAX_WIDTH, 0, &b->F));
    PAC_TRY(pac_family_heads(c, "num_attention_heads", b));
    PAC_TRY(pac_hf_number(c, "layer_norm_eps", 1e-12, &eps));
    b->eps = (float)eps;
    b->norm = PAC_NORM_LAYER;
    b->post_norm = b->biases = true;
    return pac_family_act(c, "hidden_act", &b->act);
}

static pac_err refuse_variants(const hf_config *c)
{
    const char *const positions[] = {"absolute", NULL};
    int only;
    PAC_TRY(pac_hf_choice(c, "position_embedding_type", positions, &only));
    PAC_TRY(pac_family_only(c, "is_encoder_decoder", false));
    PAC_TRY(pac_family_only(c, "is_decoder", false));
    return pac_family_only(c, "add_cross_attention", false);
}

static pac_err read_config(const hf_config *c, pac_model_desc *d)
{
    double std;
    PAC_TRY(refuse_variants(c));
    PAC_TRY(pac_hf_int(c, "vocab_size", 2, PAC_MAX_VOCAB, 0, &d->vocab));
    PAC_TRY(pac_hf_token(c, "pad_token_id", d->vocab, 0, &d->pad_id));
    d->eos_id = d->start_id = d->pad_id; /* there is no decoder, and the head reads the first row */
    PAC_TRY(pac_hf_int(c, "num_hidden_layers", 1, PAC_MAX_BLOCKS, 0, &d->layers[PAC_ENC]));
    PAC_TRY(read_block(c, &d->block[PAC_ENC]));
    PAC_TRY(pac_hf_int(c, "max_position_embeddings", 1, PAC_MAX_WIDTH, 512, &d->max_positions));
    PAC_TRY(pac_hf_int(c, "type_vocab_size", 1, PAC_MAX_WIDTH, 2, &d->types));
    PAC_TRY(pac_hf_number(c, "initializer_range", 0.02, &std));
    d->init_std = (float)std;
    d->embed_norm = d->pad_frozen = d->head_first = true;
    return PAC_OK;
}

#define B(field) offsetof(pac_block_weights, field)
#define R(field) offsetof(pac_riders, field)
#define LAYER    "encoder.layer.#."
#define TABLE(name, field, dims)                                                                                               \
    {                                                                                                                          \
        PAC_T_FIRST, PAC_ENC, PAC_WHEN_ALWAYS, "embeddings." name ".weight", R(field.w), dims, "~", 0                          \
    }
#define LINEAR(name, field, out, in)                                                                                           \
    {PAC_T_BLOCK, PAC_ENC, PAC_WHEN_ALWAYS, LAYER name ".weight", B(field.w), out in, "~", 0},                                 \
    {                                                                                                                          \
        PAC_T_BLOCK, PAC_ENC, PAC_WHEN_ALWAYS, LAYER name ".bias", B(field.b), out, "=0", 0                                    \
    }
#define NORM(scope, name, weight, bias)                                                                                        \
    {scope, PAC_ENC, PAC_WHEN_ALWAYS, name ".LayerNorm.weight|" name ".LayerNorm.gamma", weight, "D", "=1", 0},                \
    {                                                                                                                          \
        scope, PAC_ENC, PAC_WHEN_ALWAYS, name ".LayerNorm.bias|" name ".LayerNorm.beta", bias, "D", "=0", 0                    \
    }

static const pac_tensor_rule rules[] = {
    TABLE("word_embeddings", embed, "VD"),
    TABLE("position_embeddings", positions, "PD"),
    TABLE("token_type_embeddings", types, "YD"),
    NORM(PAC_T_FIRST, "embeddings", R(embed_norm.w), R(embed_norm.b)),
    LINEAR("attention.self.query", self.q, "I", "D"),
    LINEAR("attention.self.key", self.k, "I", "D"),
    LINEAR("attention.self.value", self.v, "I", "D"),
    LINEAR("attention.output.dense", self.o, "D", "I"),
    NORM(PAC_T_BLOCK, LAYER "attention.output", B(self.norm.w), B(self.norm.b)),
    LINEAR("intermediate.dense", wi, "F", "D"),
    LINEAR("output.dense", wo, "D", "F"),
    NORM(PAC_T_BLOCK, LAYER "output", B(ff_norm.w), B(ff_norm.b)),
    {PAC_T_DENSE, PAC_ENC, PAC_WHEN_ALWAYS, "pooler.dense.weight", 0, "DD", "~", PAC_T_OPTIONAL},
    {PAC_T_DENSE, PAC_ENC, PAC_WHEN_ALWAYS, "pooler.dense.bias", 0, "D", "=0", PAC_T_OPTIONAL},
    {.names = NULL},
};

/* BertModel's files, those of models with a head. */
static const char *const prefixes[] = {"", "bert.", NULL};

/* ---- shapes by name ---- */

static const char *const shape_names[] = {"bert-tiny", "bert-minilm", "bert-base", "bert-large", NULL};

static const struct {
    int width, inner, layers, heads;
} shapes[] = {{128, 512, 2, 2}, {384, 1536, 6, 12}, {768, 3072, 12, 12}, {1024, 4096, 24, 16}};

static int shape_config(int i, char *text, size_t size)
{
    return snprintf(text, size,
                    "{\n  \"architectures\": [\"BertModel\"],\n  \"model_type\": \"bert\",\n  \"vocab_size\": 30522,\n"
                    "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n  \"num_hidden_layers\": %d,\n"
                    "  \"num_attention_heads\": %d,\n  \"hidden_act\": \"gelu\",\n  \"max_position_embeddings\": 512,\n"
                    "  \"type_vocab_size\": 2,\n  \"layer_norm_eps\": 1e-12,\n  \"initializer_range\": 0.02,\n"
                    "  \"hidden_dropout_prob\": 0.1,\n  \"pad_token_id\": 0\n}\n",
                    shapes[i].width, shapes[i].inner, shapes[i].layers, shapes[i].heads);
}

const pac_family pac_family_bert = {.name = "bert",
                                    .prefixes = prefixes,
                                    .rules = rules,
                                    .read_config = read_config,
                                    .shapes = shape_names,
                                    .shape_config = shape_config};
